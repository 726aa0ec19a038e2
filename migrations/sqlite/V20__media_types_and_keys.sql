-- What each producer says that a content is: a hash has no media type of its own, and the first who uploads some bytes must not decide
-- what others who have them too sell them as. Until now there was what the one said who stored it, in overlay_storage_index, which
-- goes on to hold for that producer.

CREATE TABLE content_media_types (
    content_hash BLOB NOT NULL REFERENCES overlay_storage_index (content_hash) ON DELETE CASCADE,
    producer_id  BLOB NOT NULL REFERENCES producers (producer_id),
    media_type   TEXT NOT NULL,
    PRIMARY KEY (content_hash, producer_id)
) STRICT, WITHOUT ROWID;

-- What an administrator calls a key, to know it again.
ALTER TABLE api_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';

-- A producer's own, oldest first.
CREATE INDEX api_keys_producer ON api_keys (producer_id, created_at, key_id);

-- A key that was taken away must stop working everywhere.
CREATE TRIGGER api_keys_update AFTER UPDATE ON api_keys
    WHEN (OLD.secret_hash, OLD.revoked_at, OLD.role) IS NOT (NEW.secret_hash, NEW.revoked_at, NEW.role)
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('key', NEW.key_id);
END;

-- Nor is one that was deleted by hand believed for longer.
CREATE TRIGGER api_keys_delete AFTER DELETE ON api_keys
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('key', OLD.key_id);
END;
