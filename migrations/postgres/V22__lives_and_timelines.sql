-- Whose life an epoch is, and which history this database tells: what a restore, a copy of a data folder and a sleeping machine
-- are told apart from a crash by.

ALTER TABLE ledger_nodes
    ADD COLUMN beats   bigint  NOT NULL DEFAULT 0,
    ADD COLUMN on_time bigint  NOT NULL DEFAULT 2,
    ADD COLUMN spared  boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ledger_nodes.beats IS
    'Heartbeats that were taken: a node that knows of more than the database has was told them by another history';
COMMENT ON COLUMN ledger_nodes.on_time IS
    'Heartbeats in time since the last one that was late: who was late itself judges no other epoch before the others had their time';
COMMENT ON COLUMN ledger_nodes.spared IS
    'Leases of this epoch are released when it is over, and never charged: no crash explains their loss';

-- A later epoch of a node that is alive: two processes have one identity. Whoever restarts a node ends the time of its last epoch first.
CREATE FUNCTION penstock_spare_namesake() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE ledger_nodes SET spared = true
    WHERE node_id = NEW.node_id AND epoch < NEW.epoch AND NOT fenced AND alive_until > clock_timestamp();
    RETURN NULL;
END
$$;
CREATE TRIGGER ledger_nodes_namesake AFTER INSERT ON ledger_nodes
    FOR EACH ROW WHEN (NOT NEW.fenced) EXECUTE FUNCTION penstock_spare_namesake();

CREATE TABLE timelines (
    number          bigint      NOT NULL PRIMARY KEY,
    timeline_id     uuid        NOT NULL,
    began_at        timestamptz NOT NULL,
    home            text        NOT NULL,
    reason          text        NOT NULL,
    leases_released bigint      NOT NULL DEFAULT 0,
    bytes_released  bigint      NOT NULL DEFAULT 0
);
COMMENT ON TABLE timelines IS
    'The histories of this database, the last of them the one that goes on. A restore begins a new one';
COMMENT ON COLUMN timelines.number IS 'Grows: the largest is the history that goes on';
COMMENT ON COLUMN timelines.timeline_id IS 'What instances know the history by';
COMMENT ON COLUMN timelines.began_at IS 'By the database''s clock';
COMMENT ON COLUMN timelines.reason IS 'Why it was begun';
COMMENT ON COLUMN timelines.home IS
    'Server, database and table that it was begun in (penstock_home). Where it is read in another place, a dump was restored';
COMMENT ON COLUMN timelines.leases_released IS 'Leases that instances held when it began, and that were released';
COMMENT ON COLUMN timelines.bytes_released IS 'Bytes of those leases';

-- The last thing that a restore of a dump does is to fill the views that it made. Before that, tables lack their keys and triggers, and
-- reading this view fails: as long as a dump is being restored, nothing that asks for the timeline is answered.
CREATE MATERIALIZED VIEW penstock_whole AS SELECT true AS whole;
COMMENT ON MATERIALIZED VIEW penstock_whole IS
    'Filled as the last thing when a dump is restored: before that, the database is not used. REFRESH it where it was made without data';

-- Where this table is: a dump that is restored, be it into another server, another database or the same one, makes it anew. Copies of
-- the server's files have the same place.
CREATE FUNCTION penstock_home() RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT (SELECT system_identifier FROM pg_control_system()) || ':'
        || (SELECT oid FROM pg_database WHERE datname = current_database()) || ':' || 'timelines'::regclass::oid
    FROM penstock_whole
$$;

INSERT INTO timelines (number, timeline_id, began_at, home, reason)
VALUES (1, gen_random_uuid(), clock_timestamp(), penstock_home(), 'the database began');

-- The history that goes on, and whether it was restored into another place and nobody has said so yet.
CREATE FUNCTION penstock_timeline(OUT timeline_id uuid, OUT moved boolean)
LANGUAGE sql STABLE
AS $$
    SELECT timeline_id, home <> penstock_home() FROM timelines ORDER BY number DESC LIMIT 1
$$;

-- Begins a history after `following`, unless another instance has done so: all epochs are over, and what they held is released by
-- the next steps of reclaiming.
CREATE FUNCTION penstock_begin_timeline(following uuid, why text, OUT timeline_id uuid, OUT leases bigint, OUT bytes bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    last timelines%ROWTYPE;
BEGIN
    -- Instances that notice at the same time take turns.
    LOCK TABLE timelines IN EXCLUSIVE MODE;
    SELECT t.* INTO last FROM timelines t ORDER BY t.number DESC LIMIT 1;
    IF last.timeline_id <> following AND last.home = penstock_home() THEN
        timeline_id := last.timeline_id;
        leases := 0;
        bytes := 0;
        RETURN;
    END IF;
    SELECT count(*), coalesce(sum(l.bytes), 0) INTO leases, bytes FROM quota_leases l WHERE l.state = 'live';
    UPDATE ledger_nodes n SET fenced = true, spared = true
    WHERE NOT n.fenced OR EXISTS (
        SELECT FROM quota_leases l WHERE l.node_id = n.node_id AND l.epoch = n.epoch AND l.state = 'live');
    timeline_id := gen_random_uuid();
    INSERT INTO timelines (number, timeline_id, began_at, home, reason, leases_released, bytes_released)
    VALUES (last.number + 1, timeline_id, clock_timestamp(), penstock_home(), why, leases, bytes);
END
$$;

-- As penstock_reclaim, which instances of an earlier version call: for a caller that is alive itself, and without a charge for leases
-- of epochs that are spared.
CREATE FUNCTION penstock_reclaim_by(by_node uuid, by_epoch bigint, moment timestamptz, most bigint, charge_ids uuid[])
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
    -- A caller that slept, a clock that jumped and a dump that was restored tell nothing about the others.
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
        FROM ledger_nodes o
        WHERE NOT o.fenced AND o.alive_until <= clock_timestamp() AND (o.node_id, o.epoch) <> (by_node, by_epoch)
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

CREATE TABLE usage_set_aside (
    usage_id     uuid        NOT NULL PRIMARY KEY,
    node_id      uuid        NOT NULL,
    receipt_id   uuid        NOT NULL,
    content_hash bytea       NOT NULL,
    session_id   uuid,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL,
    bytes_sent   bigint      NOT NULL,
    requests     bigint      NOT NULL,
    outcome      text        NOT NULL,
    lease_epoch  bigint,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason       text        NOT NULL
);
COMMENT ON TABLE usage_set_aside IS
    'Usage that cannot be settled, since its receipt is not in this history, say. A person decides what becomes of it';
COMMENT ON COLUMN usage_set_aside.usage_id IS 'As in streaming_usage';
COMMENT ON COLUMN usage_set_aside.node_id IS 'The instance that delivered';
COMMENT ON COLUMN usage_set_aside.receipt_id IS 'The receipt that it was delivered under, which may be gone';
COMMENT ON COLUMN usage_set_aside.content_hash IS 'SHA-256 of the content';
COMMENT ON COLUMN usage_set_aside.session_id IS 'The session that it was of, if any';
COMMENT ON COLUMN usage_set_aside.started_at IS 'When the stream began';
COMMENT ON COLUMN usage_set_aside.finished_at IS 'When the stream ended';
COMMENT ON COLUMN usage_set_aside.bytes_sent IS 'Payload bytes';
COMMENT ON COLUMN usage_set_aside.requests IS 'Requests';
COMMENT ON COLUMN usage_set_aside.outcome IS 'How the stream ended';
COMMENT ON COLUMN usage_set_aside.lease_epoch IS 'The epoch of the lease that it was spent of, if any';
COMMENT ON COLUMN usage_set_aside.set_aside_at IS 'By the database''s clock';
COMMENT ON COLUMN usage_set_aside.reason IS 'What the ledger said';
