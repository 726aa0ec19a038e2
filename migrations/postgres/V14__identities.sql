-- Public keys that speak for a producer beside its API keys: whoever signs a request with one needs no secret of this node's.

CREATE TABLE producer_identities (
    -- Compressed. The primary key is also what a request's key is found by.
    identity_key bytea PRIMARY KEY CHECK (octet_length(identity_key) = 33),
    producer_id  uuid        NOT NULL REFERENCES producers,
    bound_at     timestamptz NOT NULL
);
-- A producer's own, oldest first.
CREATE INDEX producer_identities_producer ON producer_identities (producer_id, bound_at);

-- A key that is taken away must stop working everywhere, and one that is bound begin to.
CREATE FUNCTION penstock_note_identity() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO change_log (tag) VALUES ('identity:' || encode(OLD.identity_key, 'hex'));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO change_log (tag) VALUES ('identity:' || encode(NEW.identity_key, 'hex'));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER producer_identities_change AFTER INSERT OR UPDATE OR DELETE ON producer_identities
    FOR EACH ROW EXECUTE FUNCTION penstock_note_identity();
