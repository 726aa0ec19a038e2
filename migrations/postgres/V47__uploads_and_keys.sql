-- Which producers have sent the bytes of a content. A hash is public in the catalogue, so knowing it must not be enough to sell the content.
CREATE TABLE content_uploads (
    content_hash bytea NOT NULL REFERENCES overlay_storage_index ON DELETE CASCADE,
    producer_id  uuid  NOT NULL REFERENCES producers,
    PRIMARY KEY (content_hash, producer_id)
);
COMMENT ON TABLE content_uploads IS 'Which producers have sent all bytes of a content, and so may publish it.';
COMMENT ON COLUMN content_uploads.content_hash IS 'The content.';
COMMENT ON COLUMN content_uploads.producer_id IS 'The producer that sent it.';

-- A key may keep the secret that was replaced, for as long as its rotation says; and shows when it was used last.
ALTER TABLE api_keys
    ADD COLUMN previous_hash  bytea CHECK (octet_length(previous_hash) = 32),
    ADD COLUMN previous_until timestamptz,
    ADD COLUMN last_used_at   timestamptz,
    ADD CONSTRAINT api_keys_previous_check CHECK ((previous_hash IS NULL) = (previous_until IS NULL));
COMMENT ON COLUMN api_keys.secret_hash IS 'BLAKE3 of the secret. The secret itself is kept nowhere.';
COMMENT ON COLUMN api_keys.previous_hash IS 'BLAKE3 of the secret before the last rotation; null if it ended with the rotation.';
COMMENT ON COLUMN api_keys.previous_until IS 'When the previous secret ends, by the database''s clock.';
COMMENT ON COLUMN api_keys.last_used_at IS 'When the key was last used, to about ten minutes; null if it was not used since this is noted.';

CREATE UNIQUE INDEX api_keys_previous ON api_keys (previous_hash) WHERE previous_hash IS NOT NULL;

-- An end of the previous secret is a change as well. The time of the last use is none.
DROP TRIGGER api_keys_change ON api_keys;
CREATE TRIGGER api_keys_change AFTER UPDATE ON api_keys
    FOR EACH ROW
    WHEN ((OLD.secret_hash, OLD.previous_hash, OLD.previous_until, OLD.revoked_at, OLD.role)
          IS DISTINCT FROM (NEW.secret_hash, NEW.previous_hash, NEW.previous_until, NEW.revoked_at, NEW.role))
    EXECUTE FUNCTION penstock_note_change('key', 'key_id');
