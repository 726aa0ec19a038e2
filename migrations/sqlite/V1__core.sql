-- The catalogue and the ledger.
--
-- Times are microseconds since 1970 in UTC, ids and hashes are raw bytes, money is satoshis. Tables are STRICT, so that
-- a value of the wrong type is refused when it is written. Tables that are only ever reached by their key, and whose
-- rows are short, keep their rows in the key's own tree (WITHOUT ROWID).

CREATE TABLE producers (
    producer_id BLOB    NOT NULL PRIMARY KEY CHECK (length(producer_id) = 16),
    name        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    key_id      BLOB    NOT NULL PRIMARY KEY CHECK (length(key_id) = 16),
    producer_id BLOB    NOT NULL REFERENCES producers (producer_id),
    role        TEXT    NOT NULL CHECK (role IN ('producer', 'admin')),
    -- Serves the look-up of every authenticated request.
    secret_hash BLOB    NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

-- Content: announced while its upload runs, stored once its blob is in place.
CREATE TABLE overlay_storage_index (
    content_hash BLOB    NOT NULL PRIMARY KEY CHECK (length(content_hash) = 32),
    size_bytes   INTEGER NOT NULL CHECK (size_bytes >= 0),
    media_type   TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('announced', 'stored')),
    tier         TEXT    NOT NULL DEFAULT 'hot' CHECK (tier IN ('hot', 'warm', 'cold')),
    producer_id  BLOB    NOT NULL REFERENCES producers (producer_id),
    announced_at INTEGER NOT NULL,
    stored_at    INTEGER,
    CHECK ((state = 'stored') = (stored_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Announcements that were never completed; nearly all content is stored, so the index is all but empty.
CREATE INDEX overlay_storage_index_announced ON overlay_storage_index (announced_at) WHERE state = 'announced';

CREATE TABLE assets (
    version_id   BLOB    NOT NULL PRIMARY KEY CHECK (length(version_id) = 16),
    content_hash BLOB    NOT NULL REFERENCES overlay_storage_index (content_hash),
    name         TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    media_type   TEXT    NOT NULL,
    dataset_id   TEXT,
    policy_meta  TEXT    NOT NULL CHECK (json_valid(policy_meta)),
    producer_id  BLOB    NOT NULL REFERENCES producers (producer_id),
    created_at   INTEGER NOT NULL
) STRICT;

-- The parent side of a foreign key: withdrawing an announcement asks whether an asset names the content.
CREATE INDEX assets_content ON assets (content_hash);

CREATE TABLE prices (
    version_id BLOB    NOT NULL PRIMARY KEY REFERENCES assets (version_id),
    satoshis   INTEGER NOT NULL CHECK (satoshis >= 0),
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The limits of a tier. NULL is no limit.
CREATE TABLE quota_policies (
    policy_name            TEXT    NOT NULL PRIMARY KEY,
    description            TEXT,
    bytes_per_hour         INTEGER CHECK (bytes_per_hour >= 0),
    bytes_per_day          INTEGER CHECK (bytes_per_day >= 0),
    bytes_per_month        INTEGER CHECK (bytes_per_month >= 0),
    requests_per_hour      INTEGER CHECK (requests_per_hour >= 0),
    requests_per_day       INTEGER CHECK (requests_per_day >= 0),
    requests_per_month     INTEGER CHECK (requests_per_month >= 0),
    max_concurrent_streams INTEGER CHECK (max_concurrent_streams >= 0),
    max_bandwidth_mbps     REAL    CHECK (max_bandwidth_mbps >= 0),
    burst_bytes_allowance  INTEGER CHECK (burst_bytes_allowance >= 0),
    burst_duration_minutes INTEGER CHECK (burst_duration_minutes >= 0),
    max_file_size_bytes    INTEGER CHECK (max_file_size_bytes >= 0),
    allowed_content_types  TEXT    CHECK (json_type(allowed_content_types) = 'array'),
    updated_at             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- 1 GiB is 2^30 = 1073741824 bytes.
INSERT INTO quota_policies
    (policy_name, description,
     bytes_per_hour, bytes_per_day, bytes_per_month,
     requests_per_hour, requests_per_day, requests_per_month,
     max_concurrent_streams, max_bandwidth_mbps, updated_at)
VALUES
    ('standard', '1 GiB an hour, 10 GiB a day, 100 GiB a month',
     1 * 1073741824, 10 * 1073741824, 100 * 1073741824, 100, 1000, 10000, 1, 10.0, unixepoch() * 1000000),
    ('premium', '5 GiB an hour, 50 GiB a day, 500 GiB a month',
     5 * 1073741824, 50 * 1073741824, 500 * 1073741824, 500, 5000, 50000, 5, 50.0, unixepoch() * 1000000),
    ('enterprise', '20 GiB an hour, 200 GiB a day, 2000 GiB a month',
     20 * 1073741824, 200 * 1073741824, 2000 * 1073741824, 2000, 20000, 200000, 20, 200.0, unixepoch() * 1000000),
    ('unlimited', 'No limit of any kind',
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, unixepoch() * 1000000);

CREATE TABLE overlay_receipts (
    receipt_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(receipt_id) = 16),
    version_id     BLOB    NOT NULL REFERENCES assets (version_id),
    content_hash   BLOB    NOT NULL REFERENCES overlay_storage_index (content_hash),
    quota_tier     TEXT    NOT NULL REFERENCES quota_policies (policy_name),
    status         TEXT    NOT NULL
                   CHECK (status IN ('pending', 'confirmed', 'settled', 'consumed', 'expired', 'refunded')),
    expires_at     INTEGER NOT NULL,
    total_satoshis INTEGER NOT NULL CHECK (total_satoshis >= 0),
    -- Grows with every change of status.
    epoch          INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Receipts that can still expire; the closed ones, which only grow in number, are not in it.
CREATE INDEX overlay_receipts_open ON overlay_receipts (expires_at)
    WHERE status IN ('pending', 'confirmed', 'settled');
CREATE INDEX overlay_receipts_version ON overlay_receipts (version_id);
-- The parent side of a foreign key: withdrawing an announcement asks whether a receipt names the content.
CREATE INDEX overlay_receipts_content ON overlay_receipts (content_hash);

-- What a receipt has used and reserved in one UTC hour, day or month. Used is the sum of its rows in streaming_usage,
-- reserved the sum of its live leases.
CREATE TABLE quota_usage_windows (
    receipt_id        BLOB    NOT NULL REFERENCES overlay_receipts (receipt_id),
    window_type       TEXT    NOT NULL CHECK (window_type IN ('hour', 'day', 'month')),
    window_start      INTEGER NOT NULL,
    window_end        INTEGER NOT NULL CHECK (window_end > window_start),
    bytes_used        INTEGER NOT NULL DEFAULT 0 CHECK (bytes_used >= 0),
    bytes_reserved    INTEGER NOT NULL DEFAULT 0 CHECK (bytes_reserved >= 0),
    requests_used     INTEGER NOT NULL DEFAULT 0 CHECK (requests_used >= 0),
    requests_reserved INTEGER NOT NULL DEFAULT 0 CHECK (requests_reserved >= 0),
    PRIMARY KEY (receipt_id, window_type, window_start)
) STRICT, WITHOUT ROWID;

CREATE INDEX quota_usage_windows_span ON quota_usage_windows (receipt_id, window_type, window_start, window_end);
-- For pruning, in the order in which windows may go: 'month' sorts last, so a month goes after its days and hours.
CREATE INDEX quota_usage_windows_end ON quota_usage_windows (window_end, window_type);

-- The lives of instances. The watermark is the highest batch of usage that was applied.
CREATE TABLE ledger_nodes (
    node_id     BLOB    NOT NULL CHECK (length(node_id) = 16),
    epoch       INTEGER NOT NULL,
    alive_until INTEGER NOT NULL,
    fenced      INTEGER NOT NULL DEFAULT 0 CHECK (fenced IN (0, 1)),
    watermark   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node_id, epoch)
) STRICT, WITHOUT ROWID;

-- What an instance has taken from a receipt's windows. A lost lease was charged; it keeps the part of the charge that
-- no late usage row has explained yet.
CREATE TABLE quota_leases (
    receipt_id    BLOB    NOT NULL REFERENCES overlay_receipts (receipt_id),
    node_id       BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    hour_start    INTEGER NOT NULL,
    bytes         INTEGER NOT NULL CHECK (bytes >= 0),
    requests      INTEGER NOT NULL CHECK (requests >= 0),
    state         TEXT    NOT NULL CHECK (state IN ('live', 'lost')),
    lost_usage_id BLOB,
    PRIMARY KEY (receipt_id, node_id, epoch, hour_start),
    FOREIGN KEY (node_id, epoch) REFERENCES ledger_nodes (node_id, epoch),
    CHECK ((state = 'lost') = (lost_usage_id IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX quota_leases_node ON quota_leases (node_id, epoch, state);

-- One row per delivered stream. It has no foreign key: the transaction that inserts a row also adds it to the windows
-- of its receipt, and those refuse a receipt that does not exist, once per receipt and batch rather than once per row.
CREATE TABLE streaming_usage (
    usage_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(usage_id) = 16),
    receipt_id   BLOB    NOT NULL,
    content_hash BLOB    NOT NULL,
    session_id   BLOB,
    node_id      BLOB,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER NOT NULL,
    bytes_sent   INTEGER NOT NULL CHECK (bytes_sent >= 0),
    requests     INTEGER NOT NULL CHECK (requests >= 0),
    outcome      TEXT    NOT NULL CHECK (outcome IN ('completed', 'aborted', 'revoked', 'failed', 'lost_lease')),
    lease_epoch  INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX streaming_usage_receipt ON streaming_usage (receipt_id, usage_id);
