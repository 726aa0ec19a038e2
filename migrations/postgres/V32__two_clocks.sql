-- Two clocks decide that an epoch is over: the database's, and the monotonic clock of the instance that takes its leases back.

ALTER TABLE ledger_nodes ADD COLUMN lease_ms bigint;
COMMENT ON COLUMN ledger_nodes.lease_ms IS
    'How long a heartbeat is good for, in milliseconds: others take nothing back before it was silent for as long. Null of an instance of an earlier version';

-- What an instance that is alive has found leased to it that it does not know of, so that an audit shows it.
ALTER TABLE ledger_nodes
    ADD COLUMN unknown_bytes    bigint,
    ADD COLUMN unknown_requests bigint,
    ADD COLUMN compared_at      timestamptz;
COMMENT ON COLUMN ledger_nodes.unknown_bytes IS
    'Bytes that are leased to the instance and that it does not know of, when it last compared; must be 0. Null where it has not compared';
COMMENT ON COLUMN ledger_nodes.unknown_requests IS 'Requests, in the same way';
COMMENT ON COLUMN ledger_nodes.compared_at IS 'When the instance last compared its leases, by the database''s clock';

-- As penstock_reclaim_by, which instances of an earlier version call: an epoch is over when this clock says so and the caller has seen, for
-- as long as its lease lasts on a clock of the caller's own, that it sent no heartbeat. What was fenced before needs no such witness.
CREATE FUNCTION penstock_reclaim_silent(
    by_node uuid, by_epoch bigint, silent_nodes uuid[], silent_epochs bigint[], silent_beats bigint[], moment timestamptz, most bigint,
    charge_ids uuid[])
RETURNS TABLE (
    taken_leases bigint, taken_bytes bigint, taken_requests bigint,
    spared_leases bigint, spared_bytes bigint, spared_requests bigint, more boolean
)
LANGUAGE plpgsql
ROWS 1
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    found_leases bigint;
    hour_receipts uuid[];
    hour_starts timestamptz[];
BEGIN
    -- A caller that slept and a dump that was restored tell nothing about the others.
    PERFORM FROM ledger_nodes n
    WHERE n.node_id = by_node AND n.epoch = by_epoch AND NOT n.fenced AND n.on_time >= 2
      AND n.alive_until > clock_timestamp() AND NOT (SELECT moved FROM penstock_timeline());
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, false;
        RETURN;
    END IF;

    -- A node whose row is locked is settling; the next step finds it.
    UPDATE ledger_nodes n SET fenced = true
    FROM (
        SELECT o.node_id, o.epoch
        FROM unnest(silent_nodes, silent_epochs, silent_beats) AS s (node_id, epoch, beats)
        JOIN ledger_nodes o ON o.node_id = s.node_id AND o.epoch = s.epoch AND o.beats = s.beats
        WHERE NOT o.fenced AND o.alive_until <= clock_timestamp() AND (o.node_id, o.epoch) <> (by_node, by_epoch)
        FOR NO KEY UPDATE OF o SKIP LOCKED
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
        SELECT l.*, r.content_hash, row_number() OVER () AS place, charge_ids IS NOT NULL AND NOT n.spared AS charged,
               charge_ids IS NOT NULL AND n.spared AS is_spared
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
        WHERE charged
    ),
    lost AS (
        UPDATE quota_leases l SET state = 'lost', lost_usage_id = charge_ids[t.place]
        FROM taken t
        WHERE t.charged AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    released AS (
        DELETE FROM quota_leases l USING taken t
        WHERE NOT t.charged AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    moved AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used,
                                              requests_used, bytes_reserved, requests_reserved)
        SELECT t.receipt_id, k.window_type, k.window_start, k.window_end,
               coalesce(sum(t.bytes) FILTER (WHERE t.charged), 0),
               coalesce(sum(t.requests) FILTER (WHERE t.charged), 0), sum(t.bytes), sum(t.requests)
        FROM taken t CROSS JOIN LATERAL penstock_windows(t.hour_start) AS k
        GROUP BY k.rank, t.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, t.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_used = w.bytes_used + excluded.bytes_used,
            requests_used = w.requests_used + excluded.requests_used,
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0), count(*) FILTER (WHERE is_spared),
           coalesce(sum(bytes) FILTER (WHERE is_spared), 0), coalesce(sum(requests) FILTER (WHERE is_spared), 0)
    INTO taken_leases, taken_bytes, taken_requests, spared_leases, spared_bytes, spared_requests
    FROM taken;

    -- A step that found every lease guarded by somebody else says that nothing is left, so that nobody tries in
    -- circles.
    more := taken_leases > 0 AND (found_leases >= most OR taken_leases < found_leases);
    RETURN NEXT;
END
$$;
