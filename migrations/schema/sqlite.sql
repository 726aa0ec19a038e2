CREATE TABLE api_keys (
    key_id      BLOB    NOT NULL PRIMARY KEY CHECK (length(key_id) = 16),
    producer_id BLOB    NOT NULL REFERENCES producers (producer_id),
    role        TEXT    NOT NULL CHECK (role IN ('producer', 'admin')),
    -- Serves the look-up of every authenticated request.
    secret_hash BLOB    NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
, name TEXT NOT NULL DEFAULT '', previous_hash BLOB CHECK (length(previous_hash) = 32), previous_until INTEGER CHECK ((previous_hash IS NULL) = (previous_until IS NULL)), last_used_at INTEGER) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX api_keys_previous ON api_keys (previous_hash) WHERE previous_hash IS NOT NULL;

CREATE INDEX api_keys_producer ON api_keys (producer_id, created_at, key_id);

CREATE TRIGGER api_keys_delete AFTER DELETE ON api_keys
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('key', OLD.key_id);
END;

CREATE TRIGGER api_keys_update AFTER UPDATE ON api_keys
    WHEN (OLD.secret_hash, OLD.previous_hash, OLD.previous_until, OLD.revoked_at, OLD.role)
        IS NOT (NEW.secret_hash, NEW.previous_hash, NEW.previous_until, NEW.revoked_at, NEW.role)
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('key', NEW.key_id);
END;

CREATE TABLE asset_search (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    version_id  BLOB    NOT NULL UNIQUE REFERENCES assets (version_id) ON DELETE CASCADE,
    producer_id BLOB    NOT NULL,
    dataset_id  TEXT,
    -- Without parameters, in lower case.
    media_type  TEXT    NOT NULL,
    satoshis    INTEGER NOT NULL
) STRICT;

CREATE TRIGGER asset_search_gone AFTER DELETE ON asset_search BEGIN
    DELETE FROM asset_texts WHERE rowid = old.number;
END;

CREATE VIRTUAL TABLE asset_texts USING fts5 (
    name, description, policy_meta, tags, content = '', contentless_delete = 1, tokenize = 'ascii'
);

CREATE TABLE 'asset_texts_config'(k PRIMARY KEY, v) WITHOUT ROWID;

CREATE TABLE 'asset_texts_data'(id INTEGER PRIMARY KEY, block BLOB);

CREATE TABLE 'asset_texts_docsize'(id INTEGER PRIMARY KEY, sz BLOB, origin INTEGER);

CREATE TABLE 'asset_texts_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;

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

CREATE INDEX assets_content ON assets (content_hash);

CREATE TRIGGER assets_change AFTER UPDATE ON assets
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('asset', NEW.version_id);
END;

CREATE TRIGGER assets_changed
AFTER UPDATE OF producer_id, dataset_id, media_type, name, description, policy_meta ON assets BEGIN
    UPDATE asset_search SET
        producer_id = new.producer_id, dataset_id = new.dataset_id,
        media_type = lower(trim(substr(new.media_type || ';', 1, instr(new.media_type || ';', ';') - 1)))
    WHERE version_id = new.version_id;
    DELETE FROM asset_texts WHERE rowid = (SELECT number FROM asset_search WHERE version_id = new.version_id);
    INSERT INTO asset_texts (rowid, name, description, policy_meta, tags)
        SELECT number, penstock_words(new.name), penstock_words(new.description), penstock_texts(new.policy_meta),
            '¦all ¦p' || hex(producer_id) || coalesce(' ¦d' || hex(dataset_id), '') || ' ¦m' || hex(media_type)
            || ' ¦f' || hex(substr(media_type, 1, instr(media_type || '/', '/') - 1))
        FROM asset_search WHERE version_id = new.version_id;
END;

CREATE TRIGGER assets_made AFTER INSERT ON assets BEGIN
    INSERT INTO asset_search (version_id, producer_id, dataset_id, media_type, satoshis) VALUES (
        new.version_id, new.producer_id, new.dataset_id,
        lower(trim(substr(new.media_type || ';', 1, instr(new.media_type || ';', ';') - 1))),
        coalesce((SELECT satoshis FROM prices WHERE version_id = new.version_id), 0));
    INSERT INTO asset_texts (rowid, name, description, policy_meta, tags)
        SELECT number, penstock_words(new.name), penstock_words(new.description), penstock_texts(new.policy_meta),
            '¦all ¦p' || hex(producer_id) || coalesce(' ¦d' || hex(dataset_id), '') || ' ¦m' || hex(media_type)
            || ' ¦f' || hex(substr(media_type, 1, instr(media_type || '/', '/') - 1))
        FROM asset_search WHERE version_id = new.version_id;
    -- Pages of the catalogue have changed.
    INSERT INTO change_log (kind, subject) VALUES ('asset', new.version_id);
END;

CREATE TRIGGER lineage_asset AFTER INSERT ON assets
WHEN (SELECT enabled FROM lineage_emission) BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('asset', new.created_at, json_object(
        'version', lower(hex(new.version_id)), 'content', lower(hex(new.content_hash)), 'name', new.name,
        'dataset', new.dataset_id));
END;

CREATE TABLE block_headers (
    height     INTEGER NOT NULL CHECK (height >= 0),
    -- The double SHA-256 of the header, as the wire has it.
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    -- The header as it is hashed.
    header     BLOB    NOT NULL CHECK (length(header) = 80),
    -- 256 bits, the highest byte first, so that the order of the bytes is that of the numbers.
    total_work BLOB    NOT NULL CHECK (length(total_work) = 32),
    PRIMARY KEY (height, hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX block_headers_work ON block_headers (total_work);

CREATE TABLE brc22_utxos (
    txid           BLOB    NOT NULL CHECK (length(txid) = 32),
    vout           INTEGER NOT NULL CHECK (vout BETWEEN 0 AND 4294967295),
    topic          TEXT    NOT NULL,
    satoshis       INTEGER NOT NULL CHECK (satoshis >= 0),
    locking_script BLOB    NOT NULL,
    -- The transaction that spends it, where the node knows of one.
    spent_by       BLOB    CHECK (length(spent_by) = 32),
    admitted_at    INTEGER NOT NULL,
    PRIMARY KEY (txid, vout, topic)
) STRICT, WITHOUT ROWID;

CREATE INDEX brc22_utxos_topic ON brc22_utxos (topic, admitted_at, txid, vout);

CREATE TABLE change_log (
    change_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,
    subject    BLOB    NOT NULL,
    changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE INDEX change_log_age ON change_log (changed_at);

CREATE TABLE client_keys (
    -- The day in UTC, in days since 1970.
    day INTEGER NOT NULL PRIMARY KEY,
    -- Random.
    key BLOB    NOT NULL CHECK (length(key) = 32)
) STRICT;

CREATE TABLE console_sessions (
    -- BLAKE3 of the token, which only the browser has.
    token_hash  BLOB    NOT NULL PRIMARY KEY CHECK (length(token_hash) = 32),
    -- BLAKE3 of the secret that signed in. The session ends with that secret.
    secret_hash BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    key_id      BLOB    NOT NULL REFERENCES api_keys (key_id) ON DELETE CASCADE,
    made_at     INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX console_sessions_key ON console_sessions (key_id, made_at);

CREATE TABLE content_media_types (
    content_hash BLOB NOT NULL REFERENCES overlay_storage_index (content_hash) ON DELETE CASCADE,
    producer_id  BLOB NOT NULL REFERENCES producers (producer_id),
    media_type   TEXT NOT NULL,
    PRIMARY KEY (content_hash, producer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE content_uploads (
    content_hash BLOB NOT NULL REFERENCES overlay_storage_index (content_hash) ON DELETE CASCADE,
    producer_id  BLOB NOT NULL REFERENCES producers (producer_id),
    PRIMARY KEY (content_hash, producer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE content_uses (
    content_hash BLOB    NOT NULL PRIMARY KEY CHECK (length(content_hash) = 32),
    used_on      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE earlier_prices (
    version_id BLOB    NOT NULL REFERENCES assets (version_id),
    -- By this machine's clock.
    ended_at   INTEGER NOT NULL,
    satoshis   INTEGER NOT NULL CHECK (satoshis >= 0),
    PRIMARY KEY (version_id, ended_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX earlier_prices_age ON earlier_prices (ended_at);

CREATE TABLE installation (
    -- There is one row.
    is_only         INTEGER NOT NULL PRIMARY KEY CHECK (is_only = 1),
    installation_id BLOB    NOT NULL CHECK (length(installation_id) = 16),
    -- By the database's clock. A database that is older than this table is as old as its first producer.
    created_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE installation_stores (
    tier     TEXT    NOT NULL PRIMARY KEY CHECK (tier IN ('hot', 'warm', 'cold')),
    -- Where the store was when it was marked, for people to read.
    place    TEXT    NOT NULL,
    noted_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
, store_id BLOB) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_clock (
    only_row   INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    trusted_at INTEGER NOT NULL
) STRICT;

CREATE TABLE ledger_nodes (
    node_id     BLOB    NOT NULL CHECK (length(node_id) = 16),
    epoch       INTEGER NOT NULL,
    alive_until INTEGER NOT NULL,
    fenced      INTEGER NOT NULL DEFAULT 0 CHECK (fenced IN (0, 1)),
    watermark   INTEGER NOT NULL DEFAULT 0, beats INTEGER NOT NULL DEFAULT 0, on_time INTEGER NOT NULL DEFAULT 2, spared INTEGER NOT NULL DEFAULT 0 CHECK (spared IN (0, 1)), lease_ms INTEGER, unknown_bytes INTEGER, unknown_requests INTEGER, compared_at INTEGER,
    PRIMARY KEY (node_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_nodes_namesake AFTER INSERT ON ledger_nodes WHEN NEW.fenced = 0
BEGIN
    UPDATE ledger_nodes SET spared = 1
    WHERE node_id = NEW.node_id AND epoch < NEW.epoch AND fenced = 0
        AND alive_until > CAST(unixepoch('subsec') * 1000000 AS INTEGER);
END;

CREATE TABLE lineage_edges (
    source_key BLOB    NOT NULL,
    target_key BLOB    NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    last_day   INTEGER NOT NULL,
    events     INTEGER NOT NULL,
    PRIMARY KEY (source_key, target_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX lineage_edges_last_day ON lineage_edges (last_day);

CREATE INDEX lineage_edges_target ON lineage_edges (target_key);

CREATE TABLE lineage_emission (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1))
) STRICT;

CREATE TABLE lineage_event_counts (
    day           INTEGER NOT NULL,
    namespace_key BLOB    NOT NULL,
    events        INTEGER NOT NULL CHECK (events >= 0),
    PRIMARY KEY (day, namespace_key)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE lineage_leases (
    task       TEXT    NOT NULL PRIMARY KEY,
    holder     BLOB    NOT NULL,
    token      INTEGER NOT NULL,
    held_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lineage_namespaces (
    namespace_key BLOB    NOT NULL PRIMARY KEY CHECK (length(namespace_key) = 16),
    namespace     TEXT    NOT NULL,
    -- Events of this namespace up to this one, by time and hash, have left the window because there were too many. What
    -- comes at or before it is not taken any more, so that nothing is counted twice.
    pruned_until  INTEGER NOT NULL DEFAULT -9223372036854775808,
    pruned_hash   BLOB    NOT NULL DEFAULT x''
) STRICT, WITHOUT ROWID;

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

CREATE TRIGGER lineage_nodes_forgotten AFTER DELETE ON lineage_nodes BEGIN
    INSERT INTO lineage_words (lineage_words, rowid, words) VALUES ('delete', old.node_id, old.words);
END;

CREATE TRIGGER lineage_nodes_found AFTER INSERT ON lineage_nodes BEGIN
    INSERT INTO lineage_words (rowid, words) VALUES (new.node_id, new.words);
END;

CREATE TABLE lineage_outbox (
    outbox_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT    NOT NULL CHECK (kind IN ('upload', 'asset', 'receipt', 'streams')),
    happened_at   INTEGER NOT NULL,
    detail        TEXT    NOT NULL CHECK (json_valid(detail)),
    -- Until then an instance is busy with it.
    claimed_until INTEGER NOT NULL DEFAULT 0
) STRICT;

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

CREATE VIRTUAL TABLE lineage_words USING fts5 (words, content = 'lineage_nodes', content_rowid = 'node_id',
    tokenize = 'ascii', detail = none);

CREATE TABLE 'lineage_words_config'(k PRIMARY KEY, v) WITHOUT ROWID;

CREATE TABLE 'lineage_words_data'(id INTEGER PRIMARY KEY, block BLOB);

CREATE TABLE 'lineage_words_docsize'(id INTEGER PRIMARY KEY, sz BLOB);

CREATE TABLE 'lineage_words_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;

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
, expired_from TEXT CHECK (expired_from IN ('pending', 'confirmed', 'settled')), anonymous INTEGER NOT NULL DEFAULT 0, stand_in BLOB) STRICT, WITHOUT ROWID;

CREATE INDEX overlay_receipts_content ON overlay_receipts (content_hash);

CREATE INDEX overlay_receipts_expired ON overlay_receipts (expires_at) WHERE expired_from IS NOT NULL;

CREATE INDEX overlay_receipts_open ON overlay_receipts (expires_at)
    WHERE status IN ('pending', 'confirmed', 'settled');

CREATE INDEX overlay_receipts_version ON overlay_receipts (version_id);

CREATE TRIGGER lineage_receipt AFTER INSERT ON overlay_receipts
WHEN (SELECT enabled FROM lineage_emission) AND NOT new.anonymous BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('receipt', new.created_at, json_object(
        'receipt', lower(hex(new.receipt_id)), 'version', lower(hex(new.version_id)), 'tier', new.quota_tier));
END;

CREATE TRIGGER overlay_receipts_change AFTER UPDATE OF status, quota_tier, expires_at ON overlay_receipts
    WHEN (OLD.status, OLD.quota_tier, OLD.expires_at) IS NOT (NEW.status, NEW.quota_tier, NEW.expires_at)
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('receipt', NEW.receipt_id);
END;

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

CREATE INDEX overlay_storage_index_announced ON overlay_storage_index (announced_at) WHERE state = 'announced';

CREATE TRIGGER lineage_upload AFTER UPDATE OF state ON overlay_storage_index
WHEN old.state = 'announced' AND new.state = 'stored' AND (SELECT enabled FROM lineage_emission) BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('upload', new.stored_at, json_object(
        'content', lower(hex(new.content_hash)), 'size', new.size_bytes, 'mediaType', new.media_type));
END;

CREATE TRIGGER overlay_storage_index_tier AFTER UPDATE OF tier ON overlay_storage_index WHEN OLD.tier IS NOT NEW.tier
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('content', NEW.content_hash);
END;

CREATE TABLE payment_inputs (
    spent_txid BLOB    NOT NULL CHECK (length(spent_txid) = 32),
    spent_vout INTEGER NOT NULL CHECK (spent_vout BETWEEN 0 AND 4294967295),
    -- The transaction of the payment.
    spent_by   BLOB    NOT NULL CHECK (length(spent_by) = 32),
    -- 1: that transaction was invalidated, so that another may spend the output.
    released   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (spent_by, spent_txid, spent_vout)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX payment_inputs_spent ON payment_inputs (spent_txid, spent_vout) WHERE released = 0;

CREATE TABLE payment_roots (
    txid   BLOB    NOT NULL CHECK (length(txid) = 32),
    height INTEGER NOT NULL CHECK (height BETWEEN 0 AND 4294967295),
    root   BLOB    NOT NULL CHECK (length(root) = 32),
    PRIMARY KEY (height, root, txid)
) STRICT, WITHOUT ROWID;

CREATE TABLE payments (
    txid              BLOB    NOT NULL CHECK (length(txid) = 32),
    vout              INTEGER NOT NULL CHECK (vout BETWEEN 0 AND 4294967295),
    satoshis          INTEGER NOT NULL CHECK (satoshis >= 0),
    -- What had to be paid.
    price_satoshis    INTEGER NOT NULL CHECK (price_satoshis BETWEEN 0 AND satoshis),
    -- The payer's identity key.
    sender            BLOB    NOT NULL CHECK (length(sender) = 33),
    -- The payment key of this installation that the output's key was derived from.
    payee             BLOB    NOT NULL CHECK (length(payee) = 33),
    derivation_prefix TEXT    NOT NULL,
    derivation_suffix TEXT    NOT NULL,
    version_id        BLOB    NOT NULL REFERENCES assets (version_id),
    -- NULL when its holder's data was erased; the payment stays, so that it buys nothing again.
    receipt_id        BLOB    UNIQUE REFERENCES overlay_receipts (receipt_id) ON DELETE SET NULL,
    state             TEXT    NOT NULL CHECK (state IN ('pending', 'unproven', 'proven', 'invalidated')),
    -- Of the block that holds it, when it is proven.
    height            INTEGER CHECK (height BETWEEN 0 AND 4294967295),
    made_at           INTEGER NOT NULL,
    changed_at        INTEGER NOT NULL,
    -- The envelope as it came (BEEF): the payee's wallet needs it to take the output over. The last column: others are read without it.
    beef              BLOB    NOT NULL,
    PRIMARY KEY (txid, vout),
    CHECK ((state = 'proven') = (height IS NOT NULL))
) STRICT;

CREATE INDEX payments_made ON payments (made_at, txid, vout);

CREATE INDEX payments_state ON payments (state, made_at, txid, vout);

CREATE TABLE policies (
    policy_id  TEXT    NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL CHECK (version > 0),
    document   TEXT    NOT NULL CHECK (json_valid(document)),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER policies_insert AFTER INSERT ON policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('governance', CAST(NEW.policy_id AS BLOB));
END;

CREATE TRIGGER policies_update AFTER UPDATE ON policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('governance', CAST(NEW.policy_id AS BLOB));
END;

CREATE TABLE policy_runs (
    run_id         BLOB    NOT NULL PRIMARY KEY CHECK (length(run_id) = 16),
    policy_id      TEXT    NOT NULL REFERENCES policies (policy_id),
    policy_version INTEGER NOT NULL,
    version_id     BLOB    NOT NULL CHECK (length(version_id) = 16),
    occasion       TEXT    NOT NULL CHECK (occasion IN ('evaluate', 'publish', 'receipt')),
    decision       TEXT    NOT NULL CHECK (decision IN ('allow', 'warn', 'block')),
    evaluated_at   INTEGER NOT NULL,
    -- Reasons with evidence, and which rules passed.
    verdict        TEXT    NOT NULL CHECK (json_valid(verdict))
) STRICT;

CREATE INDEX policy_runs_age ON policy_runs (evaluated_at);

CREATE INDEX policy_runs_policy_version ON policy_runs (policy_id, version_id, evaluated_at DESC, run_id DESC);

CREATE TABLE policy_versions (
    policy_id  TEXT    NOT NULL REFERENCES policies (policy_id),
    version    INTEGER NOT NULL,
    document   TEXT    NOT NULL CHECK (json_valid(document)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (policy_id, version)
) STRICT;

CREATE INDEX policy_versions_age ON policy_versions (created_at);

CREATE TABLE prices (
    version_id BLOB    NOT NULL PRIMARY KEY REFERENCES assets (version_id),
    satoshis   INTEGER NOT NULL CHECK (satoshis >= 0),
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER prices_change AFTER UPDATE OF satoshis ON prices
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('asset', NEW.version_id);
END;

CREATE TRIGGER prices_changed AFTER UPDATE ON prices BEGIN
    UPDATE asset_search SET satoshis = new.satoshis WHERE version_id = new.version_id;
END;

CREATE TRIGGER prices_made AFTER INSERT ON prices BEGIN
    UPDATE asset_search SET satoshis = new.satoshis WHERE version_id = new.version_id;
END;

CREATE TRIGGER prices_raised AFTER UPDATE OF satoshis ON prices
WHEN old.satoshis > 0 AND (new.satoshis > old.satoshis OR new.satoshis = 0) BEGIN
    DELETE FROM earlier_prices WHERE version_id = old.version_id AND satoshis >= old.satoshis;
    INSERT INTO earlier_prices (version_id, ended_at, satoshis)
    VALUES (old.version_id, CAST(unixepoch('subsec') * 1000000 AS INTEGER), old.satoshis)
    ON CONFLICT (version_id, ended_at) DO UPDATE SET satoshis = min(satoshis, excluded.satoshis);
END;

CREATE TABLE producer_identities (
    -- Compressed. The primary key is also what a request's key is found by.
    identity_key BLOB    NOT NULL PRIMARY KEY CHECK (length(identity_key) = 33),
    producer_id  BLOB    NOT NULL REFERENCES producers,
    bound_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX producer_identities_producer ON producer_identities (producer_id, bound_at);

CREATE TRIGGER producer_identities_delete AFTER DELETE ON producer_identities
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('identity', OLD.identity_key);
END;

CREATE TRIGGER producer_identities_insert AFTER INSERT ON producer_identities
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('identity', NEW.identity_key);
END;

CREATE TRIGGER producer_identities_update AFTER UPDATE ON producer_identities
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('identity', OLD.identity_key), ('identity', NEW.identity_key);
END;

CREATE TABLE producers (
    producer_id BLOB    NOT NULL PRIMARY KEY CHECK (length(producer_id) = 16),
    name        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE quota_leases (
    receipt_id    BLOB    NOT NULL REFERENCES overlay_receipts (receipt_id),
    node_id       BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    hour_start    INTEGER NOT NULL,
    bytes         INTEGER NOT NULL CHECK (bytes >= 0),
    requests      INTEGER NOT NULL CHECK (requests >= 0),
    state         TEXT    NOT NULL CHECK (state IN ('live', 'lost')),
    lost_usage_id BLOB, refill_id INTEGER NOT NULL DEFAULT 0, refill_bytes INTEGER NOT NULL DEFAULT 0, refill_requests INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (receipt_id, node_id, epoch, hour_start),
    FOREIGN KEY (node_id, epoch) REFERENCES ledger_nodes (node_id, epoch),
    CHECK ((state = 'lost') = (lost_usage_id IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX quota_leases_node ON quota_leases (node_id, epoch, state);

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

CREATE TRIGGER quota_policies_insert AFTER INSERT ON quota_policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('policy', CAST(NEW.policy_name AS BLOB));
END;

CREATE TRIGGER quota_policies_update AFTER UPDATE ON quota_policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('policy', CAST(NEW.policy_name AS BLOB));
END;

CREATE TABLE quota_refills_again (
    node_id    BLOB    NOT NULL,
    epoch      INTEGER NOT NULL,
    receipt_id BLOB    NOT NULL,
    -- The last one that was asked again, and what it was granted.
    refill_id  INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    PRIMARY KEY (node_id, epoch, receipt_id),
    FOREIGN KEY (node_id, epoch) REFERENCES ledger_nodes (node_id, epoch) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

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

CREATE INDEX quota_usage_windows_end ON quota_usage_windows (window_end, window_type);

CREATE INDEX quota_usage_windows_span ON quota_usage_windows (receipt_id, window_type, window_start, window_end);

CREATE TABLE refinery_schema_history(
             version int4 PRIMARY KEY,
             name VARCHAR(255),
             applied_on VARCHAR(255),
             checksum VARCHAR(255));

CREATE TABLE resumable_upload_parts (
    upload_id  BLOB    NOT NULL,
    part_id    BLOB    NOT NULL CHECK (length(part_id) = 16),
    -- loose: no upload counts it. kept: its upload counts it. condemned: it is being removed.
    state      TEXT    NOT NULL CHECK (state IN ('loose', 'kept', 'condemned')),
    -- The place in the upload, of a part that is or was kept.
    from_byte  INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    added_at   INTEGER NOT NULL,
    PRIMARY KEY (upload_id, part_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX resumable_upload_parts_unkept ON resumable_upload_parts (added_at) WHERE state <> 'kept';

CREATE TABLE resumable_uploads (
    upload_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(upload_id) = 16),
    producer_id   BLOB    NOT NULL REFERENCES producers (producer_id),
    kind          TEXT    NOT NULL CHECK (kind IN ('whole', 'partial', 'final')),
    -- The list of partial uploads that a client gave for a final one.
    concat        TEXT    NOT NULL,
    length_bytes  INTEGER NOT NULL CHECK (length_bytes >= 0),
    -- The bytes that are durable.
    offset_bytes  INTEGER NOT NULL DEFAULT 0 CHECK (offset_bytes BETWEEN 0 AND length_bytes),
    -- The parts that hold them.
    parts         INTEGER NOT NULL DEFAULT 0,
    media_type    TEXT    NOT NULL,
    declared_hash BLOB    CHECK (length(declared_hash) = 32),
    -- As the client wrote it.
    metadata      TEXT    NOT NULL,
    -- The stored content, once there is one.
    content_hash  BLOB    CHECK (length(content_hash) = 32),
    expires_at    INTEGER NOT NULL,
    -- The request that completes the upload, and until when others wait for it.
    holder        BLOB,
    held_until    INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX resumable_uploads_expiry ON resumable_uploads (expires_at);

CREATE INDEX resumable_uploads_open ON resumable_uploads (producer_id, length_bytes) WHERE content_hash IS NULL;

CREATE TABLE schema_floor (
    -- There is one row.
    is_only       INTEGER NOT NULL PRIMARY KEY CHECK (is_only = 1),
    -- A build whose own newest migration is below this does not start. A migration that older builds cannot live with raises it to its own
    -- number.
    least_version INTEGER NOT NULL
) STRICT;

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE storage_moves (
    content_hash BLOB    NOT NULL PRIMARY KEY REFERENCES overlay_storage_index (content_hash),
    to_tier      TEXT    NOT NULL CHECK (to_tier IN ('hot', 'warm', 'cold')),
    state        TEXT    NOT NULL CHECK (state IN ('copying', 'leaving')),
    since        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX storage_moves_state ON storage_moves (state, since);

CREATE TABLE storage_quarantine (
    content_hash BLOB    NOT NULL PRIMARY KEY REFERENCES overlay_storage_index (content_hash),
    since        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER storage_quarantine_delete AFTER DELETE ON storage_quarantine
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('content', OLD.content_hash);
END;

CREATE TRIGGER storage_quarantine_insert AFTER INSERT ON storage_quarantine
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('content', NEW.content_hash);
END;

CREATE TABLE storage_tasks (
    task               TEXT NOT NULL PRIMARY KEY CHECK (task IN ('walk', 'lifecycle', 'moves')),
    node_id            BLOB NOT NULL CHECK (length(node_id) = 16),
    held_until         INTEGER NOT NULL,
    after_hash         BLOB CHECK (length(after_hash) = 32),
    lap_began_at       INTEGER,
    whole_lap_began_at INTEGER
) STRICT, WITHOUT ROWID;

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

CREATE INDEX storage_verifications_age ON storage_verifications (verified_at);

CREATE INDEX storage_verifications_content ON storage_verifications (content_hash, verification_type, verified_at DESC);

CREATE TABLE "streaming_usage" (
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
, client BLOB) STRICT, WITHOUT ROWID;

CREATE INDEX streaming_usage_receipt ON streaming_usage (receipt_id, usage_id);

CREATE TABLE task_leases (
    task       TEXT    NOT NULL PRIMARY KEY,
    holder     BLOB    NOT NULL,
    -- Grows with each new holder: a write of an earlier holder is refused.
    token      INTEGER NOT NULL,
    held_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE timelines (
    number          INTEGER NOT NULL PRIMARY KEY,
    timeline_id     BLOB    NOT NULL CHECK (length(timeline_id) = 16),
    began_at        INTEGER NOT NULL,
    -- The file that it was begun in. Another file is a copy.
    home            TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    -- What instances held when it began, and was released.
    leases_released INTEGER NOT NULL DEFAULT 0,
    bytes_released  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE usage_set_aside (
    usage_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(usage_id) = 16),
    node_id      BLOB    NOT NULL,
    receipt_id   BLOB    NOT NULL,
    content_hash BLOB    NOT NULL,
    session_id   BLOB,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER NOT NULL,
    bytes_sent   INTEGER NOT NULL,
    requests     INTEGER NOT NULL,
    outcome      TEXT    NOT NULL,
    lease_epoch  INTEGER,
    set_aside_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    reason       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_set_aside_receipt ON usage_set_aside (receipt_id);
