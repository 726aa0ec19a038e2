-- What is known of stored copies: looks at them, what is kept from readers, moves between tiers, and when content was last used.

-- One look at one copy. Without foreign keys: it is history, and written in batches.
CREATE TABLE storage_verifications (
    verification_id   BLOB    NOT NULL PRIMARY KEY CHECK (length(verification_id) = 16),
    content_hash      BLOB    NOT NULL CHECK (length(content_hash) = 32),
    verification_type TEXT    NOT NULL CHECK (verification_type IN ('on_demand', 'walk', 'read', 'move', 'repair')),
    tier              TEXT    NOT NULL CHECK (tier IN ('hot', 'warm', 'cold')),
    finding           TEXT    NOT NULL CHECK (finding IN ('intact', 'corrupt', 'wrong_size', 'missing')),
    expected_bytes    INTEGER NOT NULL CHECK (expected_bytes >= 0),
    found_bytes       INTEGER CHECK (found_bytes >= 0),
    node_id           BLOB    NOT NULL CHECK (length(node_id) = 16),
    verified_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX storage_verifications_content ON storage_verifications (content_hash, verification_type, verified_at DESC);
-- For forgetting, oldest first.
CREATE INDEX storage_verifications_age ON storage_verifications (verified_at);

-- Content that readers do not get until it is repaired.
CREATE TABLE storage_quarantine (
    content_hash BLOB    NOT NULL PRIMARY KEY REFERENCES overlay_storage_index (content_hash),
    since        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Content on its way to a tier. Copying: readers use the old copy. Leaving: they use the new one, and the old ones are about to go.
CREATE TABLE storage_moves (
    content_hash BLOB    NOT NULL PRIMARY KEY REFERENCES overlay_storage_index (content_hash),
    to_tier      TEXT    NOT NULL CHECK (to_tier IN ('hot', 'warm', 'cold')),
    state        TEXT    NOT NULL CHECK (state IN ('copying', 'leaving')),
    since        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX storage_moves_state ON storage_moves (state, since);

-- The last day on which content was used, as days since 1970. A table of its own, so that the first use of a day does not
-- touch what every stream reads.
CREATE TABLE content_uses (
    content_hash BLOB    NOT NULL PRIMARY KEY CHECK (length(content_hash) = 32),
    used_on      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What goes over all content, one instance at a time.
CREATE TABLE storage_tasks (
    task               TEXT NOT NULL PRIMARY KEY CHECK (task IN ('walk', 'lifecycle', 'moves')),
    node_id            BLOB NOT NULL CHECK (length(node_id) = 16),
    held_until         INTEGER NOT NULL,
    after_hash         BLOB CHECK (length(after_hash) = 32),
    lap_began_at       INTEGER,
    whole_lap_began_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TRIGGER storage_quarantine_insert AFTER INSERT ON storage_quarantine
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('content', NEW.content_hash);
END;

CREATE TRIGGER storage_quarantine_delete AFTER DELETE ON storage_quarantine
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('content', OLD.content_hash);
END;

CREATE TRIGGER overlay_storage_index_tier AFTER UPDATE OF tier ON overlay_storage_index WHEN OLD.tier IS NOT NEW.tier
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('content', NEW.content_hash);
END;
