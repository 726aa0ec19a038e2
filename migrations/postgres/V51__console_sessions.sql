-- Sessions of administrators who signed in to the console. They are in the database, so that every instance knows of their end.
CREATE TABLE console_sessions (
    token_hash  bytea       NOT NULL PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    secret_hash bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    key_id      uuid        NOT NULL REFERENCES api_keys ON DELETE CASCADE,
    made_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX console_sessions_key ON console_sessions (key_id, made_at);
COMMENT ON TABLE console_sessions IS 'Sessions at the console. Few rows: a bounded number for each admin key, and expired ones go at the next sign-in.';
COMMENT ON COLUMN console_sessions.token_hash IS 'BLAKE3 of the token, which only the browser has.';
COMMENT ON COLUMN console_sessions.secret_hash IS 'BLAKE3 of the secret that signed in. The session ends with that secret.';
COMMENT ON COLUMN console_sessions.key_id IS 'The key that signed in.';
COMMENT ON COLUMN console_sessions.made_at IS 'When the session began, by this server''s clock.';
COMMENT ON COLUMN console_sessions.expires_at IS 'When the session ends if it is not ended before, by this server''s clock.';
