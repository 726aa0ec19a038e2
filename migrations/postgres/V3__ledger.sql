-- Windows, nodes, leases and usage.

-- `window_end` follows from the two columns before it (the last check says how), so these four are as unique as the
-- first three: one index is the identity of a window, and finds it by receipt, type and range. The type is compared
-- byte by byte, in any locale, since every look-up compares it. Half-empty pages keep an update of the counters on its
-- page, where it needs no new index entry.
CREATE TABLE quota_usage_windows (
    receipt_id        uuid        NOT NULL REFERENCES overlay_receipts,
    window_type       text COLLATE "C" NOT NULL CHECK (window_type IN ('hour', 'day', 'month')),
    window_start      timestamptz NOT NULL,
    window_end        timestamptz NOT NULL,
    bytes_used        bigint      NOT NULL DEFAULT 0 CHECK (bytes_used >= 0),
    bytes_reserved    bigint      NOT NULL DEFAULT 0 CHECK (bytes_reserved >= 0),
    requests_used     bigint      NOT NULL DEFAULT 0 CHECK (requests_used >= 0),
    requests_reserved bigint      NOT NULL DEFAULT 0 CHECK (requests_reserved >= 0),
    CONSTRAINT quota_usage_windows_time_range PRIMARY KEY (receipt_id, window_type, window_start, window_end),
    CONSTRAINT quota_usage_windows_length CHECK (
        CASE window_type
            WHEN 'hour' THEN window_end - window_start = interval '1 hour'
            WHEN 'day' THEN window_end - window_start = interval '1 day'
            ELSE window_end - window_start BETWEEN interval '28 days' AND interval '31 days'
        END)
) WITH (fillfactor = 50);
-- For pruning.
CREATE INDEX quota_usage_windows_end ON quota_usage_windows (window_end);

CREATE TABLE ledger_nodes (
    node_id     uuid        NOT NULL,
    epoch       bigint      NOT NULL,
    alive_until timestamptz NOT NULL,
    fenced      boolean     NOT NULL DEFAULT false,
    -- The sequence of the last batch that was settled.
    watermark   bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (node_id, epoch)
);
CREATE INDEX ledger_nodes_alive ON ledger_nodes (alive_until) WHERE NOT fenced;
CREATE INDEX ledger_nodes_fenced ON ledger_nodes (alive_until) WHERE fenced;

CREATE TABLE quota_leases (
    receipt_id    uuid        NOT NULL REFERENCES overlay_receipts,
    node_id       uuid        NOT NULL,
    epoch         bigint      NOT NULL,
    hour_start    timestamptz NOT NULL,
    bytes         bigint      NOT NULL CHECK (bytes >= 0),
    requests      bigint      NOT NULL CHECK (requests >= 0),
    state         text        NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'lost')),
    -- The usage row that a lost lease was charged as.
    lost_usage_id uuid,
    PRIMARY KEY (receipt_id, node_id, epoch, hour_start),
    FOREIGN KEY (node_id, epoch) REFERENCES ledger_nodes,
    CHECK ((state = 'lost') = (lost_usage_id IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX quota_leases_node ON quota_leases (node_id, epoch, state);

-- One row for each delivered stream, in one partition for each month of its start, so that a month can be read or
-- dropped alone.
--
-- There is no foreign key to receipts: the window that the same transaction writes has one, so a row of an unknown
-- receipt is still refused, and each row is spared a look-up.
CREATE TABLE streaming_usage (
    usage_id     uuid        NOT NULL,
    receipt_id   uuid        NOT NULL,
    content_hash bytea       NOT NULL CHECK (octet_length(content_hash) = 32),
    session_id   uuid,
    node_id      uuid,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL,
    bytes_sent   bigint      NOT NULL CHECK (bytes_sent >= 0),
    requests     bigint      NOT NULL CHECK (requests >= 0),
    outcome      text        NOT NULL CHECK (outcome IN ('completed', 'aborted', 'revoked', 'failed', 'lost_lease')),
    lease_epoch  bigint,
    PRIMARY KEY (usage_id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX streaming_usage_receipt ON streaming_usage (receipt_id, usage_id);

-- A row of a month that nobody has prepared (a clock far off, a replay from long ago) is kept here rather than refused:
-- usage is money. Preparing partitions moves such rows to a month of their own.
CREATE TABLE streaming_usage_unprepared PARTITION OF streaming_usage DEFAULT;

-- Makes the partitions of the month of `from_time` and of the `months` after it, and of any month that has unprepared
-- rows; says how many partitions were made, and how many rows were moved into them.
CREATE FUNCTION penstock_prepare_usage(from_time timestamptz, months int)
RETURNS TABLE (partitions_made bigint, rows_moved bigint)
LANGUAGE plpgsql
SET TimeZone = 'UTC'
AS $$
DECLARE
    month_start timestamptz;
    partition   text;
    moved       bigint;
BEGIN
    partitions_made := 0;
    rows_moved := 0;
    -- Instances that prepare at the same time take turns.
    PERFORM pg_advisory_xact_lock(hashtext('penstock_prepare_usage'));
    FOR month_start IN
        SELECT generate_series(date_trunc('month', from_time),
                               date_trunc('month', from_time) + make_interval(months => months), interval '1 month')
        UNION
        -- Unprepared months are few; a hundred at a time bounds a step even if clocks have gone wild.
        (SELECT DISTINCT date_trunc('month', started_at) FROM streaming_usage_unprepared LIMIT 100)
    LOOP
        partition := 'streaming_usage_' || to_char(month_start, 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE streaming_usage INCLUDING ALL)', partition);
        -- A partition cannot be attached while the default one has rows of its range.
        LOCK TABLE streaming_usage_unprepared IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM streaming_usage_unprepared WHERE started_at >= $1
                AND started_at < $2 RETURNING *)
             INSERT INTO %I SELECT * FROM moved', partition)
        USING month_start, month_start + interval '1 month';
        GET DIAGNOSTICS moved = ROW_COUNT;
        EXECUTE format('ALTER TABLE streaming_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       partition, month_start, month_start + interval '1 month');
        partitions_made := partitions_made + 1;
        rows_moved := rows_moved + moved;
    END LOOP;
    RETURN NEXT;
END
$$;

SELECT penstock_prepare_usage(transaction_timestamp(), 1);
