-- Lineage: OpenLineage events in a sliding window, the graph that is derived from them and outlives them, and what this
-- database itself has to tell.
--
-- Nodes, namespaces and edges are named by a hash of their names, which the server computes: no look-up stands between an
-- event and its rows, and an index entry is 16 bytes however long a name is.
--
-- Everything that several events may touch is merged so that neither their order nor their repetition matters: the least
-- and the greatest of times, sums over events that are new, and of two facets of one name the one with the later event.

CREATE TABLE lineage_namespaces (
    namespace_key uuid PRIMARY KEY,
    namespace     text        NOT NULL,
    -- Events of this namespace up to this one, by time and hash, have left the window because there were too many. What
    -- comes at or before it is not taken any more, so that nothing is counted twice.
    pruned_until  timestamptz NOT NULL DEFAULT '-infinity',
    pruned_hash   bytea       NOT NULL DEFAULT ''
);

-- How many events of a namespace the window holds, by UTC day.
CREATE TABLE lineage_event_counts (
    day           date   NOT NULL,
    namespace_key uuid   NOT NULL,
    events        bigint NOT NULL CHECK (events >= 0),
    PRIMARY KEY (day, namespace_key)
) WITH (fillfactor = 50);

-- The events as they came, in one partition for each UTC day, so that a day leaves the window as a whole. There is no
-- partition for everything else: it could not be taken off without a lock that events wait for.
CREATE TABLE lineage_events (
    event_time    timestamptz NOT NULL,
    -- SHA-256 of the canonical form: an event is kept once.
    event_hash    bytea       NOT NULL CHECK (octet_length(event_hash) = 32),
    namespace_key uuid        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('run', 'job', 'dataset')),
    state         text        CHECK (state IN ('START', 'RUNNING', 'COMPLETE', 'ABORT', 'FAIL', 'OTHER')),
    run_id        uuid,
    received_at   timestamptz NOT NULL,
    -- The text that was sent, so that what nobody here knows of is kept to the byte.
    body          text        NOT NULL,
    PRIMARY KEY (event_time, event_hash)
) PARTITION BY RANGE (event_time);
CREATE INDEX lineage_events_namespace ON lineage_events (namespace_key, event_time);
CREATE INDEX lineage_events_run ON lineage_events (run_id, event_time) WHERE run_id IS NOT NULL;

-- Jobs and datasets. `last_day` is the UTC day of `last_seen`: pruning finds the old ones by it, and as it changes once a
-- day, most updates touch no index.
CREATE TABLE lineage_nodes (
    node_key   uuid PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('job', 'dataset')),
    namespace  text        NOT NULL,
    name       text        NOT NULL,
    -- What search finds it by.
    words      tsvector    NOT NULL,
    -- {name: {at, by, is}}: the facet, the time of its event in microseconds, and the beginning of the event's hash.
    facets     jsonb       NOT NULL DEFAULT '{}',
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    last_day   date        NOT NULL,
    events     bigint      NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX lineage_nodes_words ON lineage_nodes USING gin (words);
CREATE INDEX lineage_nodes_last_day ON lineage_nodes (last_day);

-- The flow: from a dataset to the jobs that read it, from a job to the datasets that it writes.
CREATE TABLE lineage_edges (
    source_key uuid        NOT NULL,
    target_key uuid        NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    last_day   date        NOT NULL,
    events     bigint      NOT NULL,
    PRIMARY KEY (source_key, target_key)
) WITH (fillfactor = 70);
CREATE INDEX lineage_edges_target ON lineage_edges (target_key);
CREATE INDEX lineage_edges_last_day ON lineage_edges (last_day);

-- `first_seen` hardly ever changes once the first event of a run is there, so its place in an index does not either.
CREATE TABLE lineage_runs (
    run_id     uuid PRIMARY KEY,
    job_key    uuid        NOT NULL,
    -- NULL until an event tells one.
    state      text COLLATE "C" CHECK (state IN ('START', 'RUNNING', 'COMPLETE', 'ABORT', 'FAIL')),
    state_at   timestamptz,
    started_at timestamptz,
    ended_at   timestamptz,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    last_day   date        NOT NULL,
    events     bigint      NOT NULL,
    CHECK ((state IS NULL) = (state_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX lineage_runs_job ON lineage_runs (job_key, first_seen);
CREATE INDEX lineage_runs_last_day ON lineage_runs (last_day);

-- Who does what only one instance may do at a time. The token grows with each new holder: a step of an old one is refused.
CREATE TABLE lineage_leases (
    task       text PRIMARY KEY,
    holder     uuid        NOT NULL,
    token      bigint      NOT NULL,
    held_until timestamptz NOT NULL
);

-- What happened here and is still to be told as events. Rows come in the transactions that they tell of.
CREATE TABLE lineage_outbox (
    outbox_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text        NOT NULL CHECK (kind IN ('upload', 'asset', 'receipt', 'streams')),
    happened_at   timestamptz NOT NULL,
    detail        jsonb       NOT NULL,
    -- Until then an instance is busy with it.
    claimed_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Whether anything is told: one row.
CREATE TABLE lineage_emission (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    enabled  boolean NOT NULL
);
INSERT INTO lineage_emission (enabled) VALUES (false);

-- Whether a run in this state has ended.
CREATE FUNCTION penstock_run_ended(state text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$ SELECT state IN ('COMPLETE', 'ABORT', 'FAIL') $$;

CREATE FUNCTION penstock_utc_day(moment timestamptz)
RETURNS date
LANGUAGE sql IMMUTABLE
AS $$ SELECT (moment AT TIME ZONE 'UTC')::date $$;

-- Facets of both, of each name the one with the later event, and of all names the `most` that are newest. What has been
-- left out can never come back in by itself, for times only grow: so the order of merging does not matter.
CREATE FUNCTION penstock_merge_facets(known jsonb, given jsonb, most int)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
    SELECT coalesce(jsonb_object_agg(key, value), '{}')
    FROM (
        SELECT key, value
        FROM (
            SELECT DISTINCT ON (key) key, value
            FROM (SELECT * FROM jsonb_each(known) UNION ALL SELECT * FROM jsonb_each(given)) AS facets
            ORDER BY key, (value -> 'at')::bigint DESC, value ->> 'by' COLLATE "C" DESC
        ) AS newest
        ORDER BY (value -> 'at')::bigint DESC, value ->> 'by' COLLATE "C" DESC, key COLLATE "C" DESC
        LIMIT most
    ) AS kept
$$;

-- Makes the partitions of these days; how many were made. Attaching takes a lock that events do not wait for.
CREATE FUNCTION penstock_prepare_lineage(days date[])
RETURNS bigint
LANGUAGE plpgsql
SET TimeZone = 'UTC'
AS $$
DECLARE
    chosen    date;
    partition text;
    made      bigint := 0;
BEGIN
    -- Instances that prepare at the same time take turns.
    PERFORM pg_advisory_xact_lock(hashtext('penstock_prepare_lineage'));
    FOREACH chosen IN ARRAY days LOOP
        partition := 'lineage_events_' || to_char(chosen, 'YYYY_MM_DD');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- Where a namespace outgrows the window, events go one by one, and their room must be used again soon.
        EXECUTE format('CREATE TABLE %I (LIKE lineage_events INCLUDING ALL) WITH (autovacuum_vacuum_scale_factor = 0.02)',
                       partition);
        -- With the bounds known, attaching does not read the table.
        EXECUTE format('ALTER TABLE lineage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       partition, chosen, chosen + 1);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Keeps the events that are new, and derives jobs, datasets, runs and edges from those. One row for each event: `new`,
-- `known`, or `left` when it is of a part of the window that its namespace has outgrown.
--
-- Places in arrays stand for things: `event_subjects` and `mention_nodes` are places in the node arrays, and so on. Each
-- event, namespace and node is there once, and namespaces and nodes in the order of their keys. Rows are locked in one
-- order by everybody: namespaces, events, nodes, runs, edges, counts, each by key.
--
-- Loops are ruled out for the planner: it takes any array for ten rows, and would compare a thousand with a thousand.
CREATE FUNCTION penstock_ingest_lineage(
    moment timestamptz, facets_most int, namespace_keys uuid[], namespaces text[],
    event_times timestamptz[], event_hashes bytea[], event_namespaces int[], event_kinds text[], event_states text[],
    event_runs uuid[], event_subjects int[], event_bodies text[],
    node_keys uuid[], node_kinds text[], node_namespaces text[], node_names text[], node_words text[], node_facets jsonb[],
    mention_events int[], mention_nodes int[],
    edge_events int[], edge_sources int[], edge_targets int[]
)
RETURNS TABLE (place bigint, outcome text)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_nestloop = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    left_times  timestamptz[];
    left_hashes bytea[];
    is_new      boolean[];
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
        events = n.events + excluded.events;

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
        events = w.events + excluded.events;

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
                ELSE 'known' END
    FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
    ORDER BY e.place;
END
$$;

-- Locks a lease for the rest of the transaction; raises PS001 when somebody else has it or its time is over. A new holder
-- waits for the lock, so no step of an old one is ever under way beside it.
CREATE FUNCTION penstock_hold_lease(chosen_task text, chosen_token bigint)
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
END
$$;

-- Removes up to `most` of a namespace's oldest events, with the runs of which nothing is left; how many events. The end
-- of the window moves first: it waits for batches that are under way, and those that come after it see it.
CREATE FUNCTION penstock_trim_lineage(lease bigint, chosen uuid, most bigint)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    last_time timestamptz;
    last_hash bytea;
    gone_runs uuid[];
    gone      bigint;
BEGIN
    PERFORM penstock_hold_lease('pruner', lease);
    SELECT event_time, event_hash INTO last_time, last_hash
    FROM (
        SELECT event_time, event_hash FROM lineage_events
        WHERE namespace_key = chosen
        ORDER BY event_time, event_hash
        LIMIT most
    ) AS oldest
    ORDER BY event_time DESC, event_hash DESC
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    UPDATE lineage_namespaces SET pruned_until = last_time, pruned_hash = last_hash
    WHERE namespace_key = chosen AND (pruned_until, pruned_hash) < (last_time, last_hash);

    WITH due AS MATERIALIZED (
        SELECT event_time, event_hash FROM lineage_events
        WHERE namespace_key = chosen AND event_time <= last_time AND (event_time, event_hash) <= (last_time, last_hash)
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

    -- Events go oldest first, so a run whose newest one is gone has none.
    DELETE FROM lineage_runs r
    WHERE r.run_id = ANY (gone_runs) AND NOT EXISTS (
        SELECT FROM lineage_events e WHERE e.event_time = r.last_seen AND e.run_id = r.run_id);
    RETURN gone;
END
$$;

-- What the database tells of itself. A trigger rather than a part of each statement: it runs in the same transaction,
-- whichever statement or function writes, now and later.

-- One row for a batch of usage, summed up by content: the number of rows of a batch costs it nothing.
CREATE FUNCTION penstock_tell_streams()
RETURNS trigger
LANGUAGE plpgsql
SET jit = off
AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        SELECT 'streams', max(finished_at), jsonb_agg(jsonb_build_object(
                   'content', encode(content_hash, 'hex'), 'streams', streams, 'bytes', bytes,
                   'first', (extract(epoch FROM started_at) * 1000000)::bigint,
                   'last', (extract(epoch FROM finished_at) * 1000000)::bigint))
        FROM (
            SELECT content_hash, count(*) AS streams, sum(bytes_sent)::bigint AS bytes, min(started_at) AS started_at,
                   max(finished_at) AS finished_at
            FROM new_usage
            -- Not a stream: what a lost instance had reserved.
            WHERE outcome <> 'lost_lease'
            GROUP BY content_hash
        ) AS contents
        HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER lineage AFTER INSERT ON streaming_usage
    REFERENCING NEW TABLE AS new_usage FOR EACH STATEMENT EXECUTE FUNCTION penstock_tell_streams();

CREATE FUNCTION penstock_tell_upload()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        VALUES ('upload', NEW.stored_at, jsonb_build_object(
            'content', encode(NEW.content_hash, 'hex'), 'size', NEW.size_bytes, 'mediaType', NEW.media_type));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER lineage AFTER UPDATE OF state ON overlay_storage_index
    FOR EACH ROW WHEN (OLD.state = 'announced' AND NEW.state = 'stored') EXECUTE FUNCTION penstock_tell_upload();

CREATE FUNCTION penstock_tell_asset()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        VALUES ('asset', NEW.created_at, jsonb_build_object(
            'version', NEW.version_id, 'content', encode(NEW.content_hash, 'hex'), 'name', NEW.name,
            'dataset', NEW.dataset_id));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER lineage AFTER INSERT ON assets FOR EACH ROW EXECUTE FUNCTION penstock_tell_asset();

CREATE FUNCTION penstock_tell_receipt()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        VALUES ('receipt', NEW.created_at, jsonb_build_object(
            'receipt', NEW.receipt_id, 'version', NEW.version_id, 'tier', NEW.quota_tier));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER lineage AFTER INSERT ON overlay_receipts FOR EACH ROW EXECUTE FUNCTION penstock_tell_receipt();
