-- Usage may be of content that somebody else delivered, under a URL that was charged for when it was given: an outcome of
-- its own, so that what the node sent itself can be told from what it only gave the right to.
--
-- SQLite cannot change a check, so the table is made anew around its rows.

CREATE TABLE streaming_usage_delegated (
    usage_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(usage_id) = 16),
    receipt_id   BLOB    NOT NULL,
    content_hash BLOB    NOT NULL,
    session_id   BLOB,
    node_id      BLOB,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER NOT NULL,
    bytes_sent   INTEGER NOT NULL CHECK (bytes_sent >= 0),
    requests     INTEGER NOT NULL CHECK (requests >= 0),
    outcome      TEXT    NOT NULL
                 CHECK (outcome IN ('completed', 'aborted', 'revoked', 'failed', 'lost_lease', 'delegated')),
    lease_epoch  INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO streaming_usage_delegated SELECT * FROM streaming_usage;
DROP TABLE streaming_usage;
ALTER TABLE streaming_usage_delegated RENAME TO streaming_usage;
CREATE INDEX streaming_usage_receipt ON streaming_usage (receipt_id, usage_id);
