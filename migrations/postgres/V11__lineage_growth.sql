-- Ingest says whether the graph grew, and writes it into the log of changes, so that answers that are cached on any instance are
-- dropped when there is something new to show, and stay when events only confirm what is known.

-- Keeps the events that are new, and derives jobs, datasets, runs and edges from those. One row for each event: `new`,
-- `known`, or `left` when it is of a part of the window that its namespace has outgrown; and with each, whether the graph has
-- nodes or edges that it had not. If so, the log of changes says it.
--
-- Places in arrays stand for things: `event_subjects` and `mention_nodes` are places in the node arrays, and so on. Each
-- event, namespace and node is there once, and namespaces and nodes in the order of their keys. Rows are locked in one
-- order by everybody: namespaces, events, nodes, runs, edges, counts, each by key.
--
-- Loops are ruled out for the planner: it takes any array for ten rows, and would compare a thousand with a thousand.
DROP FUNCTION penstock_ingest_lineage;
CREATE FUNCTION penstock_ingest_lineage(
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
    is_new      boolean[];
    new_nodes   boolean;
    new_edges   boolean;
BEGIN
    -- The lock keeps pruning from moving the end of a namespace's window while this looks at it. A namespace that is
    -- forgotten between the two statements is made again.
    LOOP
        INSERT INTO lineage_namespaces (namespace_key, namespace)
        SELECT key, name FROM unnest(namespace_keys, namespaces) AS n (key, name)
        ON CONFLICT (namespace_key) DO NOTHING;

        SELECT array_agg(pruned_until), array_agg(pruned_hash) INTO left_times, left_hashes
        FROM (
            SELECT pruned_until, pruned_hash FROM lineage_namespaces
            WHERE namespace_key = ANY (namespace_keys)
            ORDER BY namespace_key
            FOR SHARE
        ) AS held;
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
