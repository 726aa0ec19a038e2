-- What is known of stored copies: looks at them, what is kept from readers, moves between tiers, and when content was last used.

-- One look at one copy. Without foreign keys: it is history, and written in batches.
CREATE TABLE storage_verifications (
    verification_id   uuid PRIMARY KEY,
    content_hash      bytea       NOT NULL CHECK (octet_length(content_hash) = 32),
    verification_type text        NOT NULL
                      CHECK (verification_type IN ('on_demand', 'walk', 'read', 'move', 'repair')),
    tier              text        NOT NULL CHECK (tier IN ('hot', 'warm', 'cold')),
    finding           text        NOT NULL CHECK (finding IN ('intact', 'corrupt', 'wrong_size', 'missing')),
    expected_bytes    bigint      NOT NULL CHECK (expected_bytes >= 0),
    found_bytes       bigint      CHECK (found_bytes >= 0),
    node_id           uuid        NOT NULL,
    verified_at       timestamptz NOT NULL
);
CREATE INDEX storage_verifications_content ON storage_verifications (content_hash, verification_type, verified_at DESC);
-- For forgetting, oldest first.
CREATE INDEX storage_verifications_age ON storage_verifications (verified_at);

-- Content that readers do not get until it is repaired.
CREATE TABLE storage_quarantine (
    content_hash bytea PRIMARY KEY REFERENCES overlay_storage_index,
    since        timestamptz NOT NULL
);

-- Content on its way to a tier. Copying: readers use the old copy. Leaving: they use the new one, and the old ones are about to go.
CREATE TABLE storage_moves (
    content_hash bytea PRIMARY KEY REFERENCES overlay_storage_index,
    to_tier      text        NOT NULL CHECK (to_tier IN ('hot', 'warm', 'cold')),
    state        text        NOT NULL CHECK (state IN ('copying', 'leaving')),
    since        timestamptz NOT NULL
);
CREATE INDEX storage_moves_state ON storage_moves (state, since);

-- The last day on which content was used. A table of its own, so that the first use of a day does not touch what every stream
-- reads; no index on the day, so that the row is changed in place.
CREATE TABLE content_uses (
    content_hash bytea PRIMARY KEY CHECK (octet_length(content_hash) = 32),
    used_on      date NOT NULL
) WITH (fillfactor = 80);

-- What goes over all content, one instance at a time.
CREATE TABLE storage_tasks (
    task               text PRIMARY KEY CHECK (task IN ('walk', 'lifecycle', 'moves')),
    node_id            uuid        NOT NULL,
    held_until         timestamptz NOT NULL,
    after_hash         bytea CHECK (octet_length(after_hash) = 32),
    lap_began_at       timestamptz,
    whole_lap_began_at timestamptz
);

CREATE FUNCTION penstock_note_content_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO change_log (tag)
    VALUES ('content:' || encode(CASE TG_OP WHEN 'DELETE' THEN OLD.content_hash ELSE NEW.content_hash END, 'hex'));
    RETURN NULL;
END
$$;

CREATE TRIGGER storage_quarantine_change AFTER INSERT OR DELETE ON storage_quarantine
    FOR EACH ROW EXECUTE FUNCTION penstock_note_content_change();

CREATE TRIGGER overlay_storage_index_tier AFTER UPDATE OF tier ON overlay_storage_index
    FOR EACH ROW WHEN (OLD.tier IS DISTINCT FROM NEW.tier)
    EXECUTE FUNCTION penstock_note_content_change();
