-- Which producers have sent the bytes of a content. A hash is public in the catalogue, so knowing it must not be enough to sell the content.
CREATE TABLE content_uploads (
    content_hash BLOB NOT NULL REFERENCES overlay_storage_index (content_hash) ON DELETE CASCADE,
    producer_id  BLOB NOT NULL REFERENCES producers (producer_id),
    PRIMARY KEY (content_hash, producer_id)
) STRICT, WITHOUT ROWID;

-- A key may keep the secret that was replaced, until the time that its rotation says; and shows when it was used last, to about ten minutes.
ALTER TABLE api_keys ADD COLUMN previous_hash BLOB CHECK (length(previous_hash) = 32);
ALTER TABLE api_keys ADD COLUMN previous_until INTEGER CHECK ((previous_hash IS NULL) = (previous_until IS NULL));
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER;

CREATE UNIQUE INDEX api_keys_previous ON api_keys (previous_hash) WHERE previous_hash IS NOT NULL;

-- An end of the previous secret is a change as well. The time of the last use is none.
DROP TRIGGER api_keys_update;
CREATE TRIGGER api_keys_update AFTER UPDATE ON api_keys
    WHEN (OLD.secret_hash, OLD.previous_hash, OLD.previous_until, OLD.revoked_at, OLD.role)
        IS NOT (NEW.secret_hash, NEW.previous_hash, NEW.previous_until, NEW.revoked_at, NEW.role)
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('key', NEW.key_id);
END;
