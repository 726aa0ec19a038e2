-- The mark of a client in rows of usage: an HMAC of its address under a key of the day, so that streams of one client can be
-- counted for a day, and nothing links one day to another.

-- Without a default, so no row is written.
ALTER TABLE streaming_usage ADD COLUMN client bytea;

COMMENT ON COLUMN streaming_usage.client IS
    'The mark of the client''s address under the key of the day; null where it is not known. Equal for one address on one day.';

CREATE TABLE client_keys (
    day date  NOT NULL PRIMARY KEY,
    key bytea NOT NULL CHECK (octet_length(key) = 32)
);

COMMENT ON TABLE client_keys IS 'The keys under which addresses of clients are marked. A key is deleted some time after its day.';
COMMENT ON COLUMN client_keys.day IS 'The day in UTC, by this server''s clock.';
COMMENT ON COLUMN client_keys.key IS 'Random. All instances use it.';

-- As before, with the marks of clients.
CREATE FUNCTION penstock_settle(
    batch_node uuid, batch_epoch bigint, batch_sequence bigint,
    usage_ids uuid[], usage_receipts uuid[], usage_contents bytea[], usage_sessions uuid[], usage_clients bytea[],
    usage_starts timestamptz[], usage_ends timestamptz[], usage_bytes bigint[], usage_requests bigint[],
    usage_outcomes text[], usage_epochs bigint[],
    release_receipts uuid[], release_hours timestamptz[], release_epochs bigint[], release_bytes bigint[],
    release_requests bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    inserted      bigint;
    -- The new rows, summed by receipt, hour and the epoch of their lease.
    sum_receipts  uuid[];
    sum_hours     timestamptz[];
    sum_epochs    bigint[];
    sum_bytes     bigint[];
    sum_requests  bigint[];
BEGIN
    -- The gate. It locks the node's row, so that batches of one node take turns. A node that nobody knows (any more) is
    -- fenced from the start: it settles what it still has, once, and takes no lease.
    INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, fenced, watermark)
    VALUES (batch_node, batch_epoch, clock_timestamp(), true, batch_sequence)
    ON CONFLICT (node_id, epoch) DO UPDATE SET watermark = excluded.watermark WHERE n.watermark < excluded.watermark;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    WITH new AS (
        INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, session_id, node_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch, client)
        SELECT u.usage_id, u.receipt_id, u.content_hash, u.session_id, batch_node, u.started_at, u.finished_at,
               u.bytes_sent, u.requests, u.outcome, u.lease_epoch, u.client
        -- Shorter arrays count as filled up with NULLs.
        FROM unnest(usage_ids, usage_receipts, usage_contents, usage_sessions, usage_clients, usage_starts, usage_ends,
                    usage_bytes, usage_requests, usage_outcomes, usage_epochs)
            AS u (usage_id, receipt_id, content_hash, session_id, client, started_at, finished_at, bytes_sent,
                  requests, outcome, lease_epoch)
        ORDER BY u.usage_id
        ON CONFLICT DO NOTHING
        RETURNING receipt_id, started_at, lease_epoch, bytes_sent, requests
    ),
    sums AS (
        SELECT receipt_id, date_trunc('hour', started_at, 'UTC') AS hour_start, lease_epoch, count(*) AS new_rows,
               sum(bytes_sent)::bigint AS bytes, sum(requests)::bigint AS requests
        FROM new
        GROUP BY 1, 2, 3
    )
    SELECT coalesce(sum(new_rows), 0), array_agg(receipt_id), array_agg(hour_start), array_agg(lease_epoch),
           array_agg(bytes), array_agg(requests)
    INTO inserted, sum_receipts, sum_hours, sum_epochs, sum_bytes, sum_requests
    FROM sums;

    -- The locks of the leases, if there are any to look at. A release of what is not leased is ignored, so it makes no
    -- window.
    IF array_remove(sum_epochs, NULL) <> '{}' OR cardinality(release_receipts) > 0 THEN
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end)
        SELECT receipt_id, 'hour', hour_start, hour_start + interval '1 hour'
        FROM (
            SELECT receipt_id, hour_start FROM unnest(sum_receipts, sum_hours) AS s (receipt_id, hour_start)
            UNION
            SELECT l.receipt_id, l.hour_start
            FROM unnest(release_receipts, release_hours, release_epochs) AS r (receipt_id, hour_start, epoch)
            JOIN quota_leases l ON l.receipt_id = r.receipt_id AND l.node_id = batch_node AND l.epoch = r.epoch
                AND l.hour_start = r.hour_start
        ) AS touched
        ORDER BY receipt_id, hour_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET bytes_used = w.bytes_used
            WHERE false;
    END IF;

    WITH wished AS (
        SELECT receipt_id, hour_start, lease_epoch, bytes, requests, 0 AS back_bytes, 0 AS back_requests
        FROM unnest(sum_receipts, sum_hours, sum_epochs, sum_bytes, sum_requests)
            AS s (receipt_id, hour_start, lease_epoch, bytes, requests)
        UNION ALL
        SELECT receipt_id, hour_start, lease_epoch, NULL, NULL, back_bytes, back_requests
        FROM unnest(release_receipts, release_hours, release_epochs, release_bytes, release_requests)
            AS r (receipt_id, hour_start, lease_epoch, back_bytes, back_requests)
    ),
    summed AS (
        -- `bytes` and `requests` stay NULL where there is only a release.
        SELECT receipt_id, hour_start, lease_epoch, sum(bytes)::bigint AS bytes, sum(requests)::bigint AS requests,
               sum(back_bytes)::bigint AS back_bytes, sum(back_requests)::bigint AS back_requests
        FROM wished
        GROUP BY 1, 2, 3
    ),
    matched AS (
        -- What leaves the lease: what was spent, be it live or lost, and what a live one gives back of the rest.
        SELECT s.*, l.state, l.lost_usage_id, l.bytes AS lease_bytes, l.requests AS lease_requests,
               CASE l.state
                   WHEN 'live' THEN least(l.bytes, coalesce(s.bytes, 0) + s.back_bytes)
                   WHEN 'lost' THEN least(l.bytes, coalesce(s.bytes, 0))
                   ELSE 0
               END AS off_bytes,
               CASE l.state
                   WHEN 'live' THEN least(l.requests, coalesce(s.requests, 0) + s.back_requests)
                   WHEN 'lost' THEN least(l.requests, coalesce(s.requests, 0))
                   ELSE 0
               END AS off_requests
        FROM summed s
        LEFT JOIN quota_leases l ON l.receipt_id = s.receipt_id AND l.node_id = batch_node AND l.epoch = s.lease_epoch
            AND l.hour_start = s.hour_start
    ),
    leases AS MATERIALIZED (
        SELECT m.*, off_bytes = lease_bytes AND off_requests = lease_requests AS emptied
        FROM matched m
        WHERE bytes IS NOT NULL OR state = 'live'
    ),
    -- The windows of an hour are the same for all receipts, and a batch spans few hours.
    spans AS MATERIALIZED (
        SELECT h.hour_start, k.*
        FROM (SELECT DISTINCT hour_start FROM leases) AS h CROSS JOIN LATERAL penstock_windows(h.hour_start) AS k
    ),
    emptied_leases AS (
        DELETE FROM quota_leases l USING leases m
        WHERE m.state = 'live' AND m.emptied AND l.receipt_id = m.receipt_id AND l.node_id = batch_node
          AND l.epoch = m.lease_epoch AND l.hour_start = m.hour_start
    ),
    lessened_leases AS (
        UPDATE quota_leases l SET bytes = l.bytes - m.off_bytes, requests = l.requests - m.off_requests
        FROM leases m
        WHERE (m.state = 'lost' OR NOT m.emptied) AND l.receipt_id = m.receipt_id AND l.node_id = batch_node
          AND l.epoch = m.lease_epoch AND l.hour_start = m.hour_start
    ),
    -- A lost lease was charged as a usage row of its own, which the late rows now replace.
    explained_charges AS (
        DELETE FROM streaming_usage u USING leases m
        WHERE m.state = 'lost' AND m.emptied AND u.usage_id = m.lost_usage_id AND u.started_at = m.hour_start
    ),
    lessened_charges AS (
        UPDATE streaming_usage u SET bytes_sent = u.bytes_sent - m.off_bytes, requests = u.requests - m.off_requests
        FROM leases m
        WHERE m.state = 'lost' AND NOT m.emptied AND u.usage_id = m.lost_usage_id AND u.started_at = m.hour_start
    )
    -- `bytes_reserved` and `requests_reserved` carry what comes off. A window that is new has nothing reserved, and
    -- then nothing comes off.
    INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used, requests_used,
                                          bytes_reserved, requests_reserved)
    SELECT m.receipt_id, k.window_type, k.window_start, k.window_end,
           sum(coalesce(m.bytes, 0) - CASE WHEN m.state = 'lost' THEN m.off_bytes ELSE 0 END),
           sum(coalesce(m.requests, 0) - CASE WHEN m.state = 'lost' THEN m.off_requests ELSE 0 END),
           sum(CASE WHEN m.state = 'live' THEN m.off_bytes ELSE 0 END),
           sum(CASE WHEN m.state = 'live' THEN m.off_requests ELSE 0 END)
    FROM leases m JOIN spans k ON k.hour_start = m.hour_start
    GROUP BY k.rank, m.receipt_id, k.window_type, k.window_start, k.window_end
    ORDER BY k.rank, m.receipt_id, k.window_start
    ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
        bytes_used = w.bytes_used + excluded.bytes_used,
        requests_used = w.requests_used + excluded.requests_used,
        bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
        requests_reserved = w.requests_reserved - excluded.requests_reserved;

    RETURN inserted;
END
$$;

-- Instances of the version before know no marks.
CREATE OR REPLACE FUNCTION penstock_settle(
    batch_node uuid, batch_epoch bigint, batch_sequence bigint,
    usage_ids uuid[], usage_receipts uuid[], usage_contents bytea[], usage_sessions uuid[],
    usage_starts timestamptz[], usage_ends timestamptz[], usage_bytes bigint[], usage_requests bigint[],
    usage_outcomes text[], usage_epochs bigint[],
    release_receipts uuid[], release_hours timestamptz[], release_epochs bigint[], release_bytes bigint[],
    release_requests bigint[]) RETURNS bigint
    LANGUAGE sql
    AS $$
    SELECT penstock_settle(batch_node, batch_epoch, batch_sequence, usage_ids, usage_receipts, usage_contents,
                           usage_sessions, '{}'::bytea[], usage_starts, usage_ends, usage_bytes, usage_requests,
                           usage_outcomes, usage_epochs, release_receipts, release_hours, release_epochs,
                           release_bytes, release_requests)
$$;
