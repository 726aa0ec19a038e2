-- The ledger's three hot operations, one round trip each.
--
-- Functions, because under READ COMMITTED each statement of a function sees what was committed before it began: lock
-- first, read then. A single statement would decide by what it saw before it waited for the lock.
--
-- The lock of a receipt's hour window guards its leases of that hour; whoever changes a lease holds it. Windows are
-- locked in one order everywhere, hours first, then days, then months, each by receipt and start, so no two operations
-- wait for each other. A node's row is locked before any window.
--
-- The planner is told to reach tables by key only: the statistics of a table that has just been filled or emptied
-- mislead it, and a plan made then would be kept by the connection. JIT would compile for longer than these statements
-- run.

-- The windows that hold a moment.
CREATE FUNCTION penstock_windows(moment timestamptz)
RETURNS TABLE (rank int, window_type text, window_start timestamptz, window_end timestamptz)
LANGUAGE sql STABLE
AS $$
    SELECT kind.rank, kind.window_type, date_trunc(kind.window_type, moment, 'UTC'),
           (date_trunc(kind.window_type, moment AT TIME ZONE 'UTC') + kind.length) AT TIME ZONE 'UTC'
    FROM (VALUES (1, 'hour', interval '1 hour'), (2, 'day', interval '1 day'), (3, 'month', interval '1 month'))
        AS kind (rank, window_type, length)
$$;

-- What to grant of one dimension in one window; -1 refuses, so that the least of all windows refuses when one does.
CREATE FUNCTION penstock_grant(lim bigint, taken bigint, need bigint, want bigint, divisor bigint)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE
        WHEN lim IS NULL THEN greatest(want, need)
        WHEN need > greatest(lim - taken, 0) THEN -1
        WHEN lim - taken <= lim / 100 THEN need
        ELSE greatest(least(want, (lim - taken) / divisor), need)
    END
$$;

-- Takes leases for a node. One row for each receipt that is asked for, with its windows after the grant; a receipt that
-- may not have a lease gets none. Raises PS001 when the node's epoch is not alive.
CREATE FUNCTION penstock_take_leases(
    taker_node uuid, taker_epoch bigint, divisor bigint, moment timestamptz, want_receipts uuid[],
    want_contents bytea[], need_bytes bigint[], need_requests bigint[], want_bytes bigint[], want_requests bigint[]
)
RETURNS TABLE (
    receipt_id uuid, granted_bytes bigint, granted_requests bigint,
    hour_bytes_used bigint, hour_bytes_reserved bigint, hour_requests_used bigint, hour_requests_reserved bigint,
    day_bytes_used bigint, day_bytes_reserved bigint, day_requests_used bigint, day_requests_reserved bigint,
    month_bytes_used bigint, month_bytes_reserved bigint, month_requests_used bigint, month_requests_reserved bigint
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    chosen uuid[];
BEGIN
    SELECT array_agg(want.receipt_id) INTO chosen
    FROM unnest(want_receipts, want_contents, want_bytes, want_requests) AS want (receipt_id, content_hash, bytes,
        requests)
    JOIN overlay_receipts r ON r.receipt_id = want.receipt_id AND r.content_hash = want.content_hash
    JOIN overlay_storage_index c ON c.content_hash = r.content_hash
    JOIN quota_policies p ON p.policy_name = r.quota_tier
    WHERE want.bytes + want.requests > 0
      AND r.status IN ('confirmed', 'settled') AND r.expires_at > moment
      AND c.state = 'stored'
      AND num_nonnulls(p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
                       p.requests_per_hour, p.requests_per_day, p.requests_per_month) > 0;

    -- Makes the windows that are missing and locks those that are there: a conflict locks its row even where nothing is
    -- to do.
    INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end)
    SELECT want.receipt_id, k.window_type, k.window_start, k.window_end
    FROM unnest(chosen) AS want (receipt_id) CROSS JOIN penstock_windows(moment) AS k
    ORDER BY k.rank, want.receipt_id
    ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET bytes_used = w.bytes_used WHERE false;

    -- Only now: an epoch that is fenced while this waited for a window must not add to a lease that was reclaimed
    -- meanwhile.
    PERFORM FROM ledger_nodes n
    WHERE n.node_id = taker_node AND n.epoch = taker_epoch AND NOT n.fenced AND n.alive_until > clock_timestamp();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % of node % is not alive', taker_epoch, taker_node USING ERRCODE = 'PS001';
    END IF;

    RETURN QUERY
    WITH standing AS MATERIALIZED (
        SELECT want.receipt_id, want.receipt_id = ANY (chosen) AS chosen,
               want.need_bytes, want.need_requests, want.want_bytes, want.want_requests,
               coalesce(h.bytes_used, 0) AS h_bu, coalesce(h.bytes_reserved, 0) AS h_br,
               coalesce(h.requests_used, 0) AS h_ru, coalesce(h.requests_reserved, 0) AS h_rr,
               coalesce(d.bytes_used, 0) AS d_bu, coalesce(d.bytes_reserved, 0) AS d_br,
               coalesce(d.requests_used, 0) AS d_ru, coalesce(d.requests_reserved, 0) AS d_rr,
               coalesce(m.bytes_used, 0) AS m_bu, coalesce(m.bytes_reserved, 0) AS m_br,
               coalesce(m.requests_used, 0) AS m_ru, coalesce(m.requests_reserved, 0) AS m_rr
        FROM unnest(want_receipts, need_bytes, need_requests, want_bytes, want_requests)
            AS want (receipt_id, need_bytes, need_requests, want_bytes, want_requests)
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'hour') AS hour
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'day') AS day
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'month') AS month
        LEFT JOIN quota_usage_windows h ON h.receipt_id = want.receipt_id AND h.window_type = 'hour'
            AND h.window_start = hour.window_start AND h.window_end = hour.window_end
        LEFT JOIN quota_usage_windows d ON d.receipt_id = want.receipt_id AND d.window_type = 'day'
            AND d.window_start = day.window_start AND d.window_end = day.window_end
        LEFT JOIN quota_usage_windows m ON m.receipt_id = want.receipt_id AND m.window_type = 'month'
            AND m.window_start = month.window_start AND m.window_end = month.window_end
    ),
    offered AS MATERIALIZED (
        SELECT s.*, p.policy_name IS NOT NULL AS may,
               least(penstock_grant(p.bytes_per_hour, h_bu + h_br, need.bytes, s.want_bytes, divisor),
                     penstock_grant(p.bytes_per_day, d_bu + d_br, need.bytes, s.want_bytes, divisor),
                     penstock_grant(p.bytes_per_month, m_bu + m_br, need.bytes, s.want_bytes, divisor)) AS bytes,
               least(penstock_grant(p.requests_per_hour, h_ru + h_rr, s.need_requests, s.want_requests, divisor),
                     penstock_grant(p.requests_per_day, d_ru + d_rr, s.need_requests, s.want_requests, divisor),
                     penstock_grant(p.requests_per_month, m_ru + m_rr, s.need_requests, s.want_requests,
                         divisor)) AS requests
        FROM standing s
        -- The status once more: it may have changed while this waited.
        LEFT JOIN overlay_receipts r
            ON r.receipt_id = s.receipt_id AND s.chosen AND r.status IN ('confirmed', 'settled')
                AND r.expires_at > moment
        LEFT JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        -- Nobody needs more bytes than the content has.
        CROSS JOIN LATERAL (SELECT least(s.need_bytes, c.size_bytes) AS bytes) AS need
    ),
    granted AS MATERIALIZED (
        SELECT o.*, CASE WHEN may AND bytes >= 0 AND requests >= 0 THEN bytes ELSE 0 END AS g_bytes,
               CASE WHEN may AND bytes >= 0 AND requests >= 0 THEN requests ELSE 0 END AS g_requests
        FROM offered o
    ),
    reserved AS (
        UPDATE quota_usage_windows w
        SET bytes_reserved = w.bytes_reserved + g.g_bytes, requests_reserved = w.requests_reserved + g.g_requests
        FROM granted g CROSS JOIN penstock_windows(moment) AS k
        WHERE g.g_bytes + g.g_requests > 0 AND w.receipt_id = g.receipt_id
          AND w.window_type = k.window_type AND w.window_start = k.window_start AND w.window_end = k.window_end
    ),
    leased AS (
        INSERT INTO quota_leases AS l (receipt_id, node_id, epoch, hour_start, bytes, requests)
        SELECT g.receipt_id, taker_node, taker_epoch, date_trunc('hour', moment, 'UTC'), g.g_bytes, g.g_requests
        FROM granted g
        WHERE g.g_bytes + g.g_requests > 0
        ON CONFLICT (receipt_id, node_id, epoch, hour_start)
        DO UPDATE SET bytes = l.bytes + excluded.bytes, requests = l.requests + excluded.requests
    )
    SELECT g.receipt_id, g.g_bytes, g.g_requests,
           h_bu, h_br + g.g_bytes, h_ru, h_rr + g.g_requests,
           d_bu, d_br + g.g_bytes, d_ru, d_rr + g.g_requests,
           m_bu, m_br + g.g_bytes, m_ru, m_rr + g.g_requests
    FROM granted g;
END
$$;

-- Applies one batch of usage of a node; how many of its rows were new. See the port `Ledger::settle` for what it
-- promises.
CREATE FUNCTION penstock_settle(
    batch_node uuid, batch_epoch bigint, batch_sequence bigint,
    usage_ids uuid[], usage_receipts uuid[], usage_contents bytea[], usage_sessions uuid[], usage_starts timestamptz[],
    usage_ends timestamptz[], usage_bytes bigint[], usage_requests bigint[], usage_outcomes text[],
        usage_epochs bigint[],
    release_receipts uuid[], release_hours timestamptz[], release_epochs bigint[], release_bytes bigint[],
    release_requests bigint[]
)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
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
                                     bytes_sent, requests, outcome, lease_epoch)
        SELECT u.usage_id, u.receipt_id, u.content_hash, u.session_id, batch_node, u.started_at, u.finished_at,
               u.bytes_sent, u.requests, u.outcome, u.lease_epoch
        FROM unnest(usage_ids, usage_receipts, usage_contents, usage_sessions, usage_starts, usage_ends, usage_bytes,
                    usage_requests, usage_outcomes, usage_epochs)
            AS u (usage_id, receipt_id, content_hash, session_id, started_at, finished_at, bytes_sent, requests,
                  outcome, lease_epoch)
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

-- Fences the epochs that are no longer alive and takes back up to `most` of their leases. `charge_ids` are ids for the
-- usage rows that they are charged as, one for each lease; NULL releases the leases instead.
CREATE FUNCTION penstock_reclaim(moment timestamptz, most bigint, charge_ids uuid[])
RETURNS TABLE (taken_leases bigint, taken_bytes bigint, taken_requests bigint, more boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    found_leases bigint;
    hour_receipts uuid[];
    hour_starts timestamptz[];
BEGIN
    -- A node whose row is locked is settling; the next step finds it.
    UPDATE ledger_nodes n SET fenced = true
    FROM (
        SELECT o.node_id, o.epoch
        FROM ledger_nodes o
        WHERE NOT o.fenced AND (o.alive_until <= clock_timestamp() OR EXISTS (
            SELECT FROM ledger_nodes later WHERE later.node_id = o.node_id AND later.epoch > o.epoch))
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS dead
    WHERE n.node_id = dead.node_id AND n.epoch = dead.epoch;

    SELECT count(*), array_agg(receipt_id), array_agg(hour_start) INTO found_leases, hour_receipts, hour_starts
    FROM (
        SELECT l.receipt_id, l.hour_start
        FROM ledger_nodes n JOIN quota_leases l ON l.node_id = n.node_id AND l.epoch = n.epoch
        WHERE n.fenced AND l.state = 'live'
        LIMIT most
    ) AS dead;

    -- The locks of the leases, as far as nobody has them.
    SELECT array_agg(receipt_id), array_agg(window_start) INTO hour_receipts, hour_starts
    FROM (
        SELECT w.receipt_id, w.window_start
        FROM (SELECT DISTINCT receipt_id, hour_start
            FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)) AS d
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = 'hour'
            AND w.window_start = d.hour_start AND w.window_end = d.hour_start + interval '1 hour'
        FOR NO KEY UPDATE OF w SKIP LOCKED
    ) AS locked;

    WITH taken AS MATERIALIZED (
        SELECT l.*, r.content_hash, row_number() OVER () AS place
        FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)
        JOIN quota_leases l ON l.receipt_id = d.receipt_id AND l.hour_start = d.hour_start AND l.state = 'live'
        JOIN ledger_nodes n ON n.node_id = l.node_id AND n.epoch = l.epoch AND n.fenced
        JOIN overlay_receipts r ON r.receipt_id = l.receipt_id
        LIMIT most
    ),
    charges AS (
        INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, node_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch)
        SELECT charge_ids[place], receipt_id, content_hash, node_id, hour_start, moment, bytes, requests,
            'lost_lease', epoch
        FROM taken
        WHERE charge_ids IS NOT NULL
    ),
    lost AS (
        UPDATE quota_leases l SET state = 'lost', lost_usage_id = charge_ids[t.place]
        FROM taken t
        WHERE charge_ids IS NOT NULL AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    released AS (
        DELETE FROM quota_leases l USING taken t
        WHERE charge_ids IS NULL AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    moved AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used,
                                              requests_used, bytes_reserved, requests_reserved)
        SELECT t.receipt_id, k.window_type, k.window_start, k.window_end,
               CASE WHEN charge_ids IS NULL THEN 0 ELSE sum(t.bytes) END,
               CASE WHEN charge_ids IS NULL THEN 0 ELSE sum(t.requests) END, sum(t.bytes), sum(t.requests)
        FROM taken t CROSS JOIN LATERAL penstock_windows(t.hour_start) AS k
        GROUP BY k.rank, t.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, t.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_used = w.bytes_used + excluded.bytes_used,
            requests_used = w.requests_used + excluded.requests_used,
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0) INTO taken_leases, taken_bytes, taken_requests
    FROM taken;

    -- A step that found every lease guarded by somebody else says that nothing is left, so that nobody tries in
    -- circles.
    more := taken_leases > 0 AND (found_leases >= most OR taken_leases < found_leases);
    RETURN NEXT;
END
$$;
