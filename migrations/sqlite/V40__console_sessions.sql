-- Sessions of administrators who signed in to the console. Few rows: a bounded number for each admin key, and expired ones go at the next
-- sign-in.
CREATE TABLE console_sessions (
    -- BLAKE3 of the token, which only the browser has.
    token_hash  BLOB    NOT NULL PRIMARY KEY CHECK (length(token_hash) = 32),
    -- BLAKE3 of the secret that signed in. The session ends with that secret.
    secret_hash BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    key_id      BLOB    NOT NULL REFERENCES api_keys (key_id) ON DELETE CASCADE,
    made_at     INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX console_sessions_key ON console_sessions (key_id, made_at);
