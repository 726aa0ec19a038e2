-- What each producer says that a content is: a hash has no media type of its own, and the first who uploads some bytes must not decide
-- what others who have them too sell them as. Until now there was what the one said who stored it, in overlay_storage_index, which
-- goes on to hold for that producer.

CREATE TABLE content_media_types (
    content_hash bytea NOT NULL REFERENCES overlay_storage_index ON DELETE CASCADE,
    producer_id  uuid  NOT NULL REFERENCES producers,
    media_type   text  NOT NULL,
    PRIMARY KEY (content_hash, producer_id)
);

-- What an administrator calls a key, to know it again.
ALTER TABLE api_keys ADD COLUMN name text NOT NULL DEFAULT '';

-- A producer's own, oldest first.
CREATE INDEX api_keys_producer ON api_keys (producer_id, created_at, key_id);

-- A key that was taken away must stop working everywhere.
CREATE TRIGGER api_keys_change AFTER UPDATE ON api_keys
    FOR EACH ROW
    WHEN ((OLD.secret_hash, OLD.revoked_at, OLD.role) IS DISTINCT FROM (NEW.secret_hash, NEW.revoked_at, NEW.role))
    EXECUTE FUNCTION penstock_note_change('key', 'key_id');

-- Nor is one that was deleted by hand believed for longer.
CREATE FUNCTION penstock_note_lost_key() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO change_log (tag) VALUES ('key:' || OLD.key_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_delete AFTER DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION penstock_note_lost_key();
