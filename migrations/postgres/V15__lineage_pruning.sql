-- Pruning beside ingest at full speed: neither waits for the other longer than for a moment, and none for the disk.

-- A step waits for no disk. One that a crash of the server takes back is made again: its rows are there again, and so is the
-- lease under which they go. So nobody needs to wait until its commit is durable, least of all those who wait for its locks. (A later
-- transaction that is durable makes everything before it durable too.)

-- Begins a step: its transaction holds the lease to its end.
CREATE OR REPLACE FUNCTION penstock_hold_lease(chosen_task text, chosen_token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM lineage_leases
    WHERE task = chosen_task AND token = chosen_token AND held_until > clock_timestamp()
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease % of % is not held', chosen_token, chosen_task USING ERRCODE = 'PS001';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
END
$$;

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

    -- Events go oldest first, so a run whose newest one is gone has none. A run that somebody else holds is getting one. The look
    -- comes after the lock, so that it sees what whoever had the lock before has brought.
    gone_runs := ARRAY(
        SELECT run_id FROM lineage_runs WHERE run_id = ANY (gone_runs) ORDER BY run_id FOR UPDATE SKIP LOCKED);
    DELETE FROM lineage_runs r
    WHERE r.run_id = ANY (gone_runs) AND NOT EXISTS (
        SELECT FROM lineage_events e WHERE e.event_time = r.last_seen AND e.run_id = r.run_id);
    RETURN gone;
END
$$;

-- As before, but a batch holds its namespaces only in the end, from a last look at the ends of their windows to its commit. It held them
-- from the beginning, and pruning waited for as long as a batch takes, each step again.
--
-- Rows are locked in one order by everybody: events, nodes, runs, edges, namespaces, counts, each by key; pruning, which has a
-- namespace first, waits for none of the others but its counts, which nobody has without the namespace.
CREATE OR REPLACE FUNCTION penstock_ingest_lineage(
    moment timestamptz, facets_most int, namespace_keys uuid[], namespaces text[],
    event_times timestamptz[], event_hashes bytea[], event_namespaces int[], event_kinds text[], event_states text[],
    event_runs uuid[], event_subjects int[], event_bodies text[],
    node_keys uuid[], node_kinds text[], node_namespaces text[], node_names text[], node_words text[], node_facets jsonb[],
    mention_events int[], mention_nodes int[],
    edge_events int[], edge_sources int[], edge_targets int[]
)
RETURNS TABLE (place bigint, outcome text, grew boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_nestloop = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    left_times  timestamptz[];
    left_hashes bytea[];
    now_times   timestamptz[];
    now_hashes  bytea[];
    is_new      boolean[];
    new_nodes   boolean;
    new_edges   boolean;
BEGIN
    -- Not locked: pruning may move the end of a window while this goes on, and whether that matters is looked at in the end. A
    -- namespace that is forgotten between the two statements is made again.
    LOOP
        INSERT INTO lineage_namespaces (namespace_key, namespace)
        SELECT key, name FROM unnest(namespace_keys, namespaces) AS n (key, name)
        ON CONFLICT (namespace_key) DO NOTHING;

        SELECT array_agg(pruned_until ORDER BY namespace_key), array_agg(pruned_hash ORDER BY namespace_key)
        INTO left_times, left_hashes
        FROM lineage_namespaces WHERE namespace_key = ANY (namespace_keys);
        EXIT WHEN cardinality(left_times) = cardinality(namespace_keys);
    END LOOP;

    WITH kept AS (
        INSERT INTO lineage_events (event_time, event_hash, namespace_key, kind, state, run_id, received_at, body)
        SELECT e.at, e.hash, namespace_keys[event_namespaces[e.place]], event_kinds[e.place], event_states[e.place],
               event_runs[e.place], moment, event_bodies[e.place]
        FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
        WHERE (e.at, e.hash) > (left_times[event_namespaces[e.place]], left_hashes[event_namespaces[e.place]])
        ORDER BY e.at, e.hash
        ON CONFLICT (event_time, event_hash) DO NOTHING
        RETURNING event_hash
    )
    SELECT array_agg(k.event_hash IS NOT NULL ORDER BY e.place) INTO is_new
    FROM unnest(event_hashes) WITH ORDINALITY AS e (hash, place) LEFT JOIN kept k ON k.event_hash = e.hash;

    -- Of a row that was there, `xmax` names this transaction, which had to lock it.
    WITH touched AS (
        INSERT INTO lineage_nodes AS n (node_key, kind, namespace, name, words, facets, first_seen, last_seen, last_day, events)
        SELECT node_keys[m.node], node_kinds[m.node], node_namespaces[m.node], node_names[m.node],
               array_to_tsvector(string_to_array(node_words[m.node], ' ')), coalesce(node_facets[m.node], '{}'),
               min(event_times[m.event]), max(event_times[m.event]), penstock_utc_day(max(event_times[m.event])), count(*)
        FROM unnest(mention_events, mention_nodes) AS m (event, node)
        WHERE is_new[m.event]
        GROUP BY m.node
        ORDER BY m.node
        ON CONFLICT (node_key) DO UPDATE SET
            facets = CASE WHEN excluded.facets = '{}' THEN n.facets
                          ELSE penstock_merge_facets(n.facets, excluded.facets, facets_most) END,
            first_seen = least(n.first_seen, excluded.first_seen),
            last_seen = greatest(n.last_seen, excluded.last_seen),
            last_day = greatest(n.last_day, excluded.last_day),
            events = n.events + excluded.events
        RETURNING xmax = 0 AS made
    )
    SELECT coalesce(bool_or(made), false) INTO new_nodes FROM touched;

    -- The end of a run stands against whatever is told of it besides; else the latest state does. Of two events at one
    -- time the greater word wins, so that everybody comes to the same.
    INSERT INTO lineage_runs AS r (run_id, job_key, state, state_at, started_at, ended_at, first_seen, last_seen, last_day,
                                   events)
    SELECT e.run,
           (array_agg(node_keys[event_subjects[e.place]] ORDER BY e.at, node_keys[event_subjects[e.place]]))[1],
           (array_agg(e.state ORDER BY penstock_run_ended(e.state) DESC, e.at DESC, e.state COLLATE "C" DESC)
                FILTER (WHERE e.state <> 'OTHER'))[1],
           (array_agg(e.at ORDER BY penstock_run_ended(e.state) DESC, e.at DESC, e.state COLLATE "C" DESC)
                FILTER (WHERE e.state <> 'OTHER'))[1],
           min(e.at) FILTER (WHERE e.state = 'START'), max(e.at) FILTER (WHERE penstock_run_ended(e.state)),
           min(e.at), max(e.at), penstock_utc_day(max(e.at)), count(*)
    FROM unnest(event_runs, event_times, event_states) WITH ORDINALITY AS e (run, at, state, place)
    WHERE e.run IS NOT NULL AND is_new[e.place]
    GROUP BY e.run
    ORDER BY e.run
    ON CONFLICT (run_id) DO UPDATE SET
        job_key = CASE WHEN (excluded.first_seen, excluded.job_key) < (r.first_seen, r.job_key)
                       THEN excluded.job_key ELSE r.job_key END,
        state = CASE WHEN r.state IS NULL OR (penstock_run_ended(excluded.state), excluded.state_at, excluded.state)
                            > (penstock_run_ended(r.state), r.state_at, r.state)
                     THEN coalesce(excluded.state, r.state) ELSE r.state END,
        state_at = CASE WHEN r.state IS NULL OR (penstock_run_ended(excluded.state), excluded.state_at, excluded.state)
                               > (penstock_run_ended(r.state), r.state_at, r.state)
                        THEN coalesce(excluded.state_at, r.state_at) ELSE r.state_at END,
        started_at = least(r.started_at, excluded.started_at),
        ended_at = greatest(r.ended_at, excluded.ended_at),
        first_seen = least(r.first_seen, excluded.first_seen),
        last_seen = greatest(r.last_seen, excluded.last_seen),
        last_day = greatest(r.last_day, excluded.last_day),
        events = r.events + excluded.events;

    WITH touched AS (
        INSERT INTO lineage_edges AS w (source_key, target_key, first_seen, last_seen, last_day, events)
        SELECT node_keys[e.source], node_keys[e.target], min(event_times[e.event]), max(event_times[e.event]),
               penstock_utc_day(max(event_times[e.event])), count(*)
        FROM unnest(edge_events, edge_sources, edge_targets) AS e (event, source, target)
        WHERE is_new[e.event]
        GROUP BY e.source, e.target
        ORDER BY e.source, e.target
        ON CONFLICT (source_key, target_key) DO UPDATE SET
            first_seen = least(w.first_seen, excluded.first_seen),
            last_seen = greatest(w.last_seen, excluded.last_seen),
            last_day = greatest(w.last_day, excluded.last_day),
            events = w.events + excluded.events
        RETURNING xmax = 0 AS made
    )
    SELECT coalesce(bool_or(made), false) INTO new_edges FROM touched;
    IF new_nodes OR new_edges THEN
        INSERT INTO change_log (tag) VALUES ('lineage:graph');
    END IF;

    -- From here to the commit no window moves. A namespace that was forgotten meanwhile is made again.
    LOOP
        SELECT array_agg(pruned_until), array_agg(pruned_hash) INTO now_times, now_hashes
        FROM (
            SELECT pruned_until, pruned_hash FROM lineage_namespaces
            WHERE namespace_key = ANY (namespace_keys)
            ORDER BY namespace_key
            FOR SHARE
        ) AS held;
        EXIT WHEN cardinality(now_times) = cardinality(namespace_keys);
        INSERT INTO lineage_namespaces (namespace_key, namespace)
        SELECT key, name FROM unnest(namespace_keys, namespaces) AS n (key, name)
        ON CONFLICT (namespace_key) DO NOTHING;
    END LOOP;
    -- An event that is new here may have been there, and have left, while this went on: it must not be counted twice.
    IF EXISTS (
        SELECT FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
        WHERE is_new[e.place] AND (e.at, e.hash) <= (now_times[event_namespaces[e.place]], now_hashes[event_namespaces[e.place]])
    ) THEN
        RAISE EXCEPTION 'a window has moved over events of this batch' USING ERRCODE = 'PS002';
    END IF;

    -- Last, since every batch of a namespace wants this row.
    INSERT INTO lineage_event_counts AS c (day, namespace_key, events)
    SELECT penstock_utc_day(e.at), namespace_keys[event_namespaces[e.place]], count(*)
    FROM unnest(event_times) WITH ORDINALITY AS e (at, place)
    WHERE is_new[e.place]
    GROUP BY 1, 2
    ORDER BY 1, 2
    ON CONFLICT (day, namespace_key) DO UPDATE SET events = c.events + excluded.events;

    RETURN QUERY
    SELECT e.place,
           CASE WHEN is_new[e.place] THEN 'new'
                WHEN (e.at, e.hash) <= (left_times[event_namespaces[e.place]], left_hashes[event_namespaces[e.place]])
                    THEN 'left'
                ELSE 'known' END,
           new_nodes OR new_edges
    FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
    ORDER BY e.place;
END
$$;
