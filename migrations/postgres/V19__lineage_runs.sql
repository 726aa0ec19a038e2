-- A run goes with its last event, whichever namespace that one is of. The events of a run may be of several, which are trimmed each by
-- itself; looked for was one at the time of the run's newest, and a run went although the window still had older ones of it.

-- Removes up to `most` of the oldest events of a namespace, with the runs of which nothing is left; how many events.
--
-- It looks from where it last was: what has left is in the index until it is vacuumed, and would be passed over anew by each step. Only
-- when there is nothing behind that place does it look before it.
--
-- The bitmaps of two indexes are ruled out for the planner: in a partition without statistics, as every day's is in its first
-- minutes, it took a namespace for few rows and read its whole index for each event.
CREATE OR REPLACE FUNCTION penstock_trim_lineage(lease bigint, chosen uuid, most bigint)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    first_time timestamptz;
    last_time timestamptz;
    last_hash bytea;
    gone_runs uuid[];
    gone      bigint;
BEGIN
    PERFORM penstock_hold_lease('pruner', lease);
    SELECT pruned_until INTO first_time FROM lineage_namespaces WHERE namespace_key = chosen;
    LOOP
        SELECT event_time, event_hash INTO last_time, last_hash
        FROM (
            SELECT event_time, event_hash FROM lineage_events
            WHERE namespace_key = chosen AND event_time >= first_time
            ORDER BY event_time, event_hash
            LIMIT most
        ) AS oldest
        ORDER BY event_time DESC, event_hash DESC
        LIMIT 1;
        EXIT WHEN FOUND;
        IF first_time = '-infinity' THEN
            RETURN 0;
        END IF;
        first_time := '-infinity';
    END LOOP;

    UPDATE lineage_namespaces SET pruned_until = last_time, pruned_hash = last_hash
    WHERE namespace_key = chosen AND (pruned_until, pruned_hash) < (last_time, last_hash);

    WITH due AS MATERIALIZED (
        SELECT event_time, event_hash FROM lineage_events
        WHERE namespace_key = chosen AND event_time BETWEEN first_time AND last_time
          AND (event_time, event_hash) <= (last_time, last_hash)
        ORDER BY event_time, event_hash
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ),
    removed AS (
        DELETE FROM lineage_events e USING due
        WHERE e.event_time = due.event_time AND e.event_hash = due.event_hash AND e.namespace_key = chosen
        RETURNING e.event_time, e.run_id
    ),
    lessened AS (
        UPDATE lineage_event_counts c SET events = c.events - d.events
        FROM (SELECT penstock_utc_day(event_time) AS day, count(*) AS events FROM removed GROUP BY 1) AS d
        WHERE c.day = d.day AND c.namespace_key = chosen
    )
    SELECT count(*), array_agg(DISTINCT run_id) FILTER (WHERE run_id IS NOT NULL) INTO gone, gone_runs FROM removed;

    -- A run that somebody else holds is getting an event. The look comes after the lock, so that it sees what whoever had the lock before
    -- has brought. Its events are all between the first and the last that it has had: no other day's partition is looked into.
    gone_runs := ARRAY(
        SELECT run_id FROM lineage_runs WHERE run_id = ANY (gone_runs) ORDER BY run_id FOR UPDATE SKIP LOCKED);
    DELETE FROM lineage_runs r
    WHERE r.run_id = ANY (gone_runs) AND NOT EXISTS (
        SELECT FROM lineage_events e WHERE e.event_time BETWEEN r.first_seen AND r.last_seen AND e.run_id = r.run_id);
    RETURN gone;
END
$$;
