-- A refill grants once, however often it is asked and in whatever order its statements arrive, and an epoch can be closed.
--
-- The functions of before stay as they are for instances of the version before, which ask for refills without a name and
-- want credit in every dimension.

-- The last refill of a lease and what it was granted, so that a repeat is told the same. Only credit that its node knows of
-- is spent or given back, so a lease is never emptied while the answer to its last refill is on its way.
ALTER TABLE quota_leases
    ADD COLUMN refill_id       bigint NOT NULL DEFAULT 0,
    ADD COLUMN refill_bytes    bigint NOT NULL DEFAULT 0,
    ADD COLUMN refill_requests bigint NOT NULL DEFAULT 0;

-- Refills that were asked again. What was asked first may arrive after its repeat, even after the lease that it was granted
-- was given back and is gone; this row then says that it was answered. One for each receipt, and few: an answer was lost.
CREATE TABLE quota_refills_again (
    node_id    uuid   NOT NULL,
    epoch      bigint NOT NULL,
    receipt_id uuid   NOT NULL,
    -- The last one that was asked again, and what it was granted.
    refill_id  bigint NOT NULL,
    bytes      bigint NOT NULL,
    requests   bigint NOT NULL,
    PRIMARY KEY (node_id, epoch, receipt_id),
    FOREIGN KEY (node_id, epoch) REFERENCES ledger_nodes ON DELETE CASCADE
);

COMMENT ON COLUMN quota_leases.refill_id IS 'The last refill that added to the lease; its numbers grow within the epoch.';
COMMENT ON COLUMN quota_leases.refill_bytes IS 'Bytes that the last refill added.';
COMMENT ON COLUMN quota_leases.refill_requests IS 'Requests that the last refill added.';
COMMENT ON TABLE quota_refills_again IS 'Refills that an instance asked for again, since an answer was lost: what was asked first grants nothing any more.';
COMMENT ON COLUMN quota_refills_again.node_id IS 'The instance.';
COMMENT ON COLUMN quota_refills_again.epoch IS 'Its life.';
COMMENT ON COLUMN quota_refills_again.receipt_id IS 'For which receipt.';
COMMENT ON COLUMN quota_refills_again.refill_id IS 'The last refill that was asked again.';
COMMENT ON COLUMN quota_refills_again.bytes IS 'Bytes that it was granted.';
COMMENT ON COLUMN quota_refills_again.requests IS 'Requests that it was granted.';

-- What to grant of one dimension in one window; -1 refuses, so that the least of all windows refuses when one does. NULL
-- where there is no limit: what nothing limits is not leased.
CREATE FUNCTION penstock_share(lim bigint, taken bigint, need bigint, want bigint, divisor bigint)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE
        WHEN lim IS NULL THEN NULL
        WHEN need > greatest(lim - taken, 0) THEN -1
        WHEN lim - taken <= lim / 100 THEN need
        ELSE greatest(least(want, (lim - taken) / divisor), need)
    END
$$;

-- The lock of an epoch, which all refills of it share and its end has alone: so no refill that found the epoch alive takes a
-- lease after the epoch's end has looked for what is left. It is taken before any row.
CREATE FUNCTION penstock_epoch_lock(node uuid, epoch bigint)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT hashtextextended('penstock epoch ' || node || ' ' || epoch, 0)
$$;

-- Takes leases for a node. One row for each receipt that is asked for, with its windows after the grant; a receipt that
-- may not have a lease gets none. Raises PS001 when the node's epoch is not alive.
CREATE FUNCTION penstock_refill(
    taker_node uuid, taker_epoch bigint, divisor bigint, moment timestamptz, want_receipts uuid[], want_contents bytea[],
    want_ids bigint[], want_again boolean[], need_bytes bigint[], need_requests bigint[], want_bytes bigint[],
    want_requests bigint[]
)
RETURNS TABLE (
    receipt_id uuid, granted_bytes bigint, granted_requests bigint,
    hour_bytes_used bigint, hour_bytes_reserved bigint, hour_requests_used bigint, hour_requests_reserved bigint,
    day_bytes_used bigint, day_bytes_reserved bigint, day_requests_used bigint, day_requests_reserved bigint,
    month_bytes_used bigint, month_bytes_reserved bigint, month_requests_used bigint, month_requests_reserved bigint
)
LANGUAGE plpgsql
ROWS 10
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    -- Who may have a lease, and whose windows are locked: a repeat waits for the statement before it, whatever the receipt
    -- may have by now.
    chosen  uuid[];
    guarded uuid[];
BEGIN
    SELECT array_agg(w.receipt_id) FILTER (WHERE w.may), array_agg(w.receipt_id) INTO chosen, guarded
    FROM (
        SELECT want.receipt_id, want.again,
               coalesce(r.content_hash = want.content_hash AND r.status IN ('confirmed', 'settled')
                   AND r.expires_at > moment AND c.state = 'stored'
                   AND num_nonnulls(p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
                                    p.requests_per_hour, p.requests_per_day, p.requests_per_month) > 0, false) AS may
        FROM unnest(want_receipts, want_contents, want_again, want_bytes, want_requests)
            AS want (receipt_id, content_hash, again, bytes, requests)
        JOIN overlay_receipts r ON r.receipt_id = want.receipt_id
        JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        WHERE want.bytes + want.requests > 0
    ) AS w
    WHERE w.may OR w.again;

    IF guarded IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(penstock_epoch_lock(taker_node, taker_epoch));
    END IF;

    -- Makes the windows that are missing and locks those that are there: a conflict locks its row even where nothing is
    -- to do.
    INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end)
    SELECT want.receipt_id, k.window_type, k.window_start, k.window_end
    FROM unnest(guarded) AS want (receipt_id) CROSS JOIN penstock_windows(moment) AS k
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
        SELECT want.receipt_id, coalesce(want.receipt_id = ANY (chosen), false) AS chosen,
               want.again AND coalesce(want.receipt_id = ANY (guarded), false) AS again, want.id,
               want.need_bytes, want.need_requests, want.want_bytes, want.want_requests,
               -- Whether it was answered before, or comes after a later one that was.
               greatest(l.refill_id, a.refill_id, 0) >= want.id AS known,
               CASE want.id WHEN l.refill_id THEN l.refill_bytes WHEN a.refill_id THEN a.bytes ELSE 0 END
                   AS told_bytes,
               CASE want.id WHEN l.refill_id THEN l.refill_requests WHEN a.refill_id THEN a.requests ELSE 0 END
                   AS told_requests,
               coalesce(h.bytes_used, 0) AS h_bu, coalesce(h.bytes_reserved, 0) AS h_br,
               coalesce(h.requests_used, 0) AS h_ru, coalesce(h.requests_reserved, 0) AS h_rr,
               coalesce(d.bytes_used, 0) AS d_bu, coalesce(d.bytes_reserved, 0) AS d_br,
               coalesce(d.requests_used, 0) AS d_ru, coalesce(d.requests_reserved, 0) AS d_rr,
               coalesce(m.bytes_used, 0) AS m_bu, coalesce(m.bytes_reserved, 0) AS m_br,
               coalesce(m.requests_used, 0) AS m_ru, coalesce(m.requests_reserved, 0) AS m_rr
        FROM unnest(want_receipts, want_ids, want_again, need_bytes, need_requests, want_bytes, want_requests)
            AS want (receipt_id, id, again, need_bytes, need_requests, want_bytes, want_requests)
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'hour') AS hour
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'day') AS day
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'month') AS month
        LEFT JOIN quota_usage_windows h ON h.receipt_id = want.receipt_id AND h.window_type = 'hour'
            AND h.window_start = hour.window_start AND h.window_end = hour.window_end
        LEFT JOIN quota_usage_windows d ON d.receipt_id = want.receipt_id AND d.window_type = 'day'
            AND d.window_start = day.window_start AND d.window_end = day.window_end
        LEFT JOIN quota_usage_windows m ON m.receipt_id = want.receipt_id AND m.window_type = 'month'
            AND m.window_start = month.window_start AND m.window_end = month.window_end
        LEFT JOIN quota_leases l ON l.receipt_id = want.receipt_id AND l.node_id = taker_node AND l.epoch = taker_epoch
            AND l.hour_start = hour.window_start
        LEFT JOIN quota_refills_again a ON a.node_id = taker_node AND a.epoch = taker_epoch
            AND a.receipt_id = want.receipt_id
    ),
    offered AS MATERIALIZED (
        SELECT s.*, p.policy_name IS NOT NULL AND NOT s.known AS may,
               coalesce(least(penstock_share(p.bytes_per_hour, h_bu + h_br, need.bytes, s.want_bytes, divisor),
                              penstock_share(p.bytes_per_day, d_bu + d_br, need.bytes, s.want_bytes, divisor),
                              penstock_share(p.bytes_per_month, m_bu + m_br, need.bytes, s.want_bytes, divisor)),
                        0) AS bytes,
               coalesce(least(penstock_share(p.requests_per_hour, h_ru + h_rr, s.need_requests, s.want_requests,
                                  divisor),
                              penstock_share(p.requests_per_day, d_ru + d_rr, s.need_requests, s.want_requests,
                                  divisor),
                              penstock_share(p.requests_per_month, m_ru + m_rr, s.need_requests, s.want_requests,
                                  divisor)),
                        0) AS requests
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
        INSERT INTO quota_leases AS l (receipt_id, node_id, epoch, hour_start, bytes, requests, refill_id, refill_bytes,
                                       refill_requests)
        SELECT g.receipt_id, taker_node, taker_epoch, date_trunc('hour', moment, 'UTC'), g.g_bytes, g.g_requests, g.id,
               g.g_bytes, g.g_requests
        FROM granted g
        WHERE g.g_bytes + g.g_requests > 0
        ON CONFLICT (receipt_id, node_id, epoch, hour_start)
        DO UPDATE SET bytes = l.bytes + excluded.bytes, requests = l.requests + excluded.requests,
            refill_id = excluded.refill_id, refill_bytes = excluded.refill_bytes,
            refill_requests = excluded.refill_requests
    ),
    told_again AS (
        INSERT INTO quota_refills_again AS a (node_id, epoch, receipt_id, refill_id, bytes, requests)
        SELECT taker_node, taker_epoch, g.receipt_id, g.id, g.g_bytes + g.told_bytes, g.g_requests + g.told_requests
        FROM granted g
        WHERE g.again
        ON CONFLICT (node_id, epoch, receipt_id)
        DO UPDATE SET refill_id = excluded.refill_id, bytes = excluded.bytes, requests = excluded.requests
            WHERE a.refill_id < excluded.refill_id
    )
    SELECT g.receipt_id, g.g_bytes + g.told_bytes, g.g_requests + g.told_requests,
           h_bu, h_br + g.g_bytes, h_ru, h_rr + g.g_requests,
           d_bu, d_br + g.g_bytes, d_ru, d_rr + g.g_requests,
           m_bu, m_br + g.g_bytes, m_ru, m_rr + g.g_requests
    FROM granted g;
END
$$;

-- Ends an epoch: fences it, and releases up to `most` of its leases. See the port `Ledger::close` for what it promises.
CREATE FUNCTION penstock_close(closing_node uuid, closing_epoch bigint, most bigint)
RETURNS TABLE (taken_leases bigint, taken_bytes bigint, taken_requests bigint, more boolean)
LANGUAGE plpgsql
ROWS 1
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    lease_receipts uuid[];
    lease_hours    timestamptz[];
BEGIN
    PERFORM pg_advisory_xact_lock(penstock_epoch_lock(closing_node, closing_epoch));
    INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, fenced)
    VALUES (closing_node, closing_epoch, clock_timestamp(), true)
    ON CONFLICT (node_id, epoch) DO UPDATE SET fenced = true;
    DELETE FROM quota_refills_again a WHERE a.node_id = closing_node AND a.epoch = closing_epoch;

    SELECT array_agg(receipt_id), array_agg(hour_start) INTO lease_receipts, lease_hours
    FROM (
        SELECT l.receipt_id, l.hour_start FROM quota_leases l
        WHERE l.node_id = closing_node AND l.epoch = closing_epoch AND l.state = 'live'
        LIMIT most
    ) AS left_over;

    -- The locks of the leases, in the order of everywhere.
    PERFORM FROM (
        SELECT FROM unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = 'hour'
            AND w.window_start = d.hour_start AND w.window_end = d.hour_start + interval '1 hour'
        ORDER BY w.receipt_id, w.window_start
        FOR NO KEY UPDATE OF w
    ) AS locked;

    WITH released AS (
        DELETE FROM quota_leases l USING unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        WHERE l.receipt_id = d.receipt_id AND l.node_id = closing_node AND l.epoch = closing_epoch
          AND l.hour_start = d.hour_start AND l.state = 'live'
        RETURNING l.receipt_id, l.hour_start, l.bytes, l.requests
    ),
    freed AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_reserved,
                                              requests_reserved)
        SELECT r.receipt_id, k.window_type, k.window_start, k.window_end, sum(r.bytes), sum(r.requests)
        FROM released r CROSS JOIN LATERAL penstock_windows(r.hour_start) AS k
        GROUP BY k.rank, r.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, r.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0) INTO taken_leases, taken_bytes, taken_requests
    FROM released;
    more := coalesce(cardinality(lease_receipts), 0) >= most;
    RETURN NEXT;
END
$$;
