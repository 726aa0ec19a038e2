-- A node that is alive and finds its epoch fenced settles what it sent, and then ends the epoch: what is left of the charge
-- for its lost leases is taken back, since no byte explains it.

-- Ends an epoch of which everything is settled: fences it, releases its live leases, and takes back the charges for its
-- lost ones; up to `most` leases. See the port `Ledger::close` for what it promises. Instances of the version before call
-- penstock_close, which leaves charges as they are.
CREATE FUNCTION penstock_end_epoch(closing_node uuid, closing_epoch bigint, most bigint)
RETURNS TABLE (
    taken_leases bigint, taken_bytes bigint, taken_requests bigint,
    uncharged_leases bigint, uncharged_bytes bigint, uncharged_requests bigint, more boolean
)
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
        WHERE l.node_id = closing_node AND l.epoch = closing_epoch AND l.state IN ('live', 'lost')
        LIMIT most
    ) AS left_over;

    -- All windows of the leases, in the order of everywhere; those of an hour guard its leases. Charges come off by an
    -- update, since a window that was pruned must not be made anew.
    PERFORM FROM (
        SELECT FROM unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        CROSS JOIN LATERAL penstock_windows(d.hour_start) AS k
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = k.window_type
            AND w.window_start = k.window_start AND w.window_end = k.window_end
        ORDER BY k.rank, w.receipt_id, w.window_start
        FOR NO KEY UPDATE OF w
    ) AS locked;

    -- Only now: a step of reclaiming that held the locks may have charged a lease meanwhile.
    WITH ended AS (
        DELETE FROM quota_leases l USING unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        WHERE l.receipt_id = d.receipt_id AND l.node_id = closing_node AND l.epoch = closing_epoch
          AND l.hour_start = d.hour_start
        RETURNING l.receipt_id, l.hour_start, l.state, l.bytes, l.requests, l.lost_usage_id
    ),
    uncharged AS (
        DELETE FROM streaming_usage u USING ended e
        WHERE e.state = 'lost' AND u.usage_id = e.lost_usage_id AND u.started_at = e.hour_start
        RETURNING e.receipt_id, e.hour_start, u.bytes_sent, u.requests
    ),
    given_back AS (
        SELECT receipt_id, hour_start, 0 AS used_bytes, 0 AS used_requests, bytes AS reserved_bytes,
               requests AS reserved_requests
        FROM ended WHERE state = 'live'
        UNION ALL
        SELECT receipt_id, hour_start, bytes_sent, requests, 0, 0 FROM uncharged
    ),
    sums AS MATERIALIZED (
        SELECT o.receipt_id, k.window_type, k.window_start, k.window_end,
               sum(o.used_bytes)::bigint AS used_bytes, sum(o.used_requests)::bigint AS used_requests,
               sum(o.reserved_bytes)::bigint AS reserved_bytes, sum(o.reserved_requests)::bigint AS reserved_requests
        FROM given_back o CROSS JOIN LATERAL penstock_windows(o.hour_start) AS k
        GROUP BY 1, 2, 3, 4
    ),
    freed AS (
        UPDATE quota_usage_windows w SET
            bytes_used = w.bytes_used - s.used_bytes,
            requests_used = w.requests_used - s.used_requests,
            bytes_reserved = w.bytes_reserved - s.reserved_bytes,
            requests_reserved = w.requests_reserved - s.reserved_requests
        FROM sums s
        WHERE w.receipt_id = s.receipt_id AND w.window_type = s.window_type AND w.window_start = s.window_start
          AND w.window_end = s.window_end
    )
    SELECT released.leases, released.bytes, released.requests, taken_back.leases, taken_back.bytes, taken_back.requests
    INTO taken_leases, taken_bytes, taken_requests, uncharged_leases, uncharged_bytes, uncharged_requests
    FROM (
        SELECT count(*) AS leases, coalesce(sum(bytes), 0) AS bytes, coalesce(sum(requests), 0) AS requests
        FROM ended WHERE state = 'live'
    ) AS released
    CROSS JOIN (
        SELECT count(*) AS leases, coalesce(sum(bytes_sent), 0) AS bytes, coalesce(sum(requests), 0) AS requests
        FROM uncharged WHERE bytes_sent + requests > 0
    ) AS taken_back;
    more := coalesce(cardinality(lease_receipts), 0) >= most;
    RETURN NEXT;
END
$$;
