-- Lineage: OpenLineage events in a sliding window, the graph that is derived from them and outlives them, and what this
-- database itself has to tell.
--
-- Nodes, namespaces and edges are named by a hash of their names, which the server computes. Days are UTC days, counted
-- from 1970. Everything that several events may touch is merged so that neither their order nor their repetition matters.

CREATE TABLE lineage_namespaces (
    namespace_key BLOB    NOT NULL PRIMARY KEY CHECK (length(namespace_key) = 16),
    namespace     TEXT    NOT NULL,
    -- Events of this namespace up to this one, by time and hash, have left the window because there were too many. What
    -- comes at or before it is not taken any more, so that nothing is counted twice.
    pruned_until  INTEGER NOT NULL DEFAULT -9223372036854775808,
    pruned_hash   BLOB    NOT NULL DEFAULT x''
) STRICT, WITHOUT ROWID;

-- How many events of a namespace the window holds, by day.
CREATE TABLE lineage_event_counts (
    day           INTEGER NOT NULL,
    namespace_key BLOB    NOT NULL,
    events        INTEGER NOT NULL CHECK (events >= 0),
    PRIMARY KEY (day, namespace_key)
) STRICT, WITHOUT ROWID;

-- The events as they came. Bodies are long, so rows are not kept in the tree of the key.
CREATE TABLE lineage_events (
    event_time    INTEGER NOT NULL,
    -- SHA-256 of the canonical form: an event is kept once.
    event_hash    BLOB    NOT NULL CHECK (length(event_hash) = 32),
    namespace_key BLOB    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('run', 'job', 'dataset')),
    state         TEXT    CHECK (state IN ('START', 'RUNNING', 'COMPLETE', 'ABORT', 'FAIL', 'OTHER')),
    run_id        BLOB,
    received_at   INTEGER NOT NULL,
    -- The text that was sent, so that what nobody here knows of is kept to the byte.
    body          TEXT    NOT NULL,
    PRIMARY KEY (event_time, event_hash)
) STRICT;
CREATE INDEX lineage_events_namespace ON lineage_events (namespace_key, event_time, event_hash);
CREATE INDEX lineage_events_run ON lineage_events (run_id, event_time) WHERE run_id IS NOT NULL;

-- Jobs and datasets.
CREATE TABLE lineage_nodes (
    node_id    INTEGER PRIMARY KEY,
    node_key   BLOB    NOT NULL UNIQUE CHECK (length(node_key) = 16),
    kind       TEXT    NOT NULL CHECK (kind IN ('job', 'dataset')),
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    words      TEXT    NOT NULL,
    -- {name: {at, by, is}}: the facet, the time of its event in microseconds, and the beginning of the event's hash.
    facets     TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(facets)),
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    last_day   INTEGER NOT NULL,
    events     INTEGER NOT NULL
) STRICT;
CREATE INDEX lineage_nodes_last_day ON lineage_nodes (last_day);

-- What search finds nodes by: words that the server has split and folded, so the tokenizer takes them as they are. It keeps
-- the index alone and no copy of the words, which never change while a node lives.
CREATE VIRTUAL TABLE lineage_words USING fts5 (words, content = 'lineage_nodes', content_rowid = 'node_id',
    tokenize = 'ascii', detail = none);
CREATE TRIGGER lineage_nodes_found AFTER INSERT ON lineage_nodes BEGIN
    INSERT INTO lineage_words (rowid, words) VALUES (new.node_id, new.words);
END;
CREATE TRIGGER lineage_nodes_forgotten AFTER DELETE ON lineage_nodes BEGIN
    INSERT INTO lineage_words (lineage_words, rowid, words) VALUES ('delete', old.node_id, old.words);
END;

-- The flow: from a dataset to the jobs that read it, from a job to the datasets that it writes.
CREATE TABLE lineage_edges (
    source_key BLOB    NOT NULL,
    target_key BLOB    NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    last_day   INTEGER NOT NULL,
    events     INTEGER NOT NULL,
    PRIMARY KEY (source_key, target_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX lineage_edges_target ON lineage_edges (target_key);
CREATE INDEX lineage_edges_last_day ON lineage_edges (last_day);

CREATE TABLE lineage_runs (
    run_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(run_id) = 16),
    job_key    BLOB    NOT NULL,
    -- NULL until an event tells one.
    state      TEXT    CHECK (state IN ('START', 'RUNNING', 'COMPLETE', 'ABORT', 'FAIL')),
    state_at   INTEGER,
    started_at INTEGER,
    ended_at   INTEGER,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    last_day   INTEGER NOT NULL,
    events     INTEGER NOT NULL,
    CHECK ((state IS NULL) = (state_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX lineage_runs_job ON lineage_runs (job_key, first_seen);
CREATE INDEX lineage_runs_last_day ON lineage_runs (last_day);

-- Who does what only one instance may do at a time. The token grows with each new holder: a step of an old one is refused.
CREATE TABLE lineage_leases (
    task       TEXT    NOT NULL PRIMARY KEY,
    holder     BLOB    NOT NULL,
    token      INTEGER NOT NULL,
    held_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened here and is still to be told as events. Rows come in the transactions that they tell of; what a batch of
-- usage has to tell is summed up where it is settled.
CREATE TABLE lineage_outbox (
    outbox_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT    NOT NULL CHECK (kind IN ('upload', 'asset', 'receipt', 'streams')),
    happened_at   INTEGER NOT NULL,
    detail        TEXT    NOT NULL CHECK (json_valid(detail)),
    -- Until then an instance is busy with it.
    claimed_until INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Whether anything is told: one row.
CREATE TABLE lineage_emission (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1))
) STRICT;
INSERT INTO lineage_emission (enabled) VALUES (0);

CREATE TRIGGER lineage_upload AFTER UPDATE OF state ON overlay_storage_index
WHEN old.state = 'announced' AND new.state = 'stored' AND (SELECT enabled FROM lineage_emission) BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('upload', new.stored_at, json_object(
        'content', lower(hex(new.content_hash)), 'size', new.size_bytes, 'mediaType', new.media_type));
END;

CREATE TRIGGER lineage_asset AFTER INSERT ON assets
WHEN (SELECT enabled FROM lineage_emission) BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('asset', new.created_at, json_object(
        'version', lower(hex(new.version_id)), 'content', lower(hex(new.content_hash)), 'name', new.name,
        'dataset', new.dataset_id));
END;

CREATE TRIGGER lineage_receipt AFTER INSERT ON overlay_receipts
WHEN (SELECT enabled FROM lineage_emission) BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('receipt', new.created_at, json_object(
        'receipt', lower(hex(new.receipt_id)), 'version', lower(hex(new.version_id)), 'tier', new.quota_tier));
END;
