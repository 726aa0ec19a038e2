-- Public keys that speak for a producer beside its API keys: whoever signs a request with one needs no secret of this node's.

CREATE TABLE producer_identities (
    -- Compressed. The primary key is also what a request's key is found by.
    identity_key BLOB    NOT NULL PRIMARY KEY CHECK (length(identity_key) = 33),
    producer_id  BLOB    NOT NULL REFERENCES producers,
    bound_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A producer's own, oldest first.
CREATE INDEX producer_identities_producer ON producer_identities (producer_id, bound_at);

-- A key that is taken away must stop working everywhere, and one that is bound begin to.
CREATE TRIGGER producer_identities_insert AFTER INSERT ON producer_identities
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('identity', NEW.identity_key);
END;

CREATE TRIGGER producer_identities_update AFTER UPDATE ON producer_identities
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('identity', OLD.identity_key), ('identity', NEW.identity_key);
END;

CREATE TRIGGER producer_identities_delete AFTER DELETE ON producer_identities
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('identity', OLD.identity_key);
END;
