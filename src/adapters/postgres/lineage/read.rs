//! Reads of the graph: walks, nodes, runs, search.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::RunId,
    model::{
        EventHash, Graph, GraphNode, GraphWalk, LineageEdge, LineageEvent, LineageNode, NodeDetail, NodeKey, RunDetail,
        RunState, RunSummary, StoredEvent,
    },
    ports::{BODY_BYTES, EVENTS, Ingested, LineageStore, NEIGHBOURS, PortResult, RUNS, SEARCHED},
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    super::{
        PostgresStore,
        columns::{Columns, bytes_32, signed},
        db::Statement,
    },
    key, node, node_key, node_name,
};

/// By the primary key.
const NODES: Statement = Statement {
    name: "lineage_nodes",
    sql: "SELECT kind, namespace, name, first_seen, last_seen, events FROM lineage_nodes WHERE node_key = ANY ($1)",
    types: &[Type::UUID_ARRAY],
};

/// Edges by the primary key and by `lineage_edges_target`, nodes by their primary key, runs by `lineage_runs_job`.
///
/// One list of the node's neighbours: `side` says on which side each is. The node itself comes first.
const NODE: Statement = Statement {
    name: "lineage_node",
    sql: "
        SELECT 'self' AS side, kind, namespace, name, first_seen, last_seen, events, facets,
               NULL::uuid AS run_id, NULL AS state, NULL::timestamptz AS started_at, NULL::timestamptz AS ended_at
        FROM lineage_nodes WHERE node_key = $1
        UNION ALL
        (SELECT 'source', n.kind, n.namespace, n.name, n.first_seen, n.last_seen, n.events, NULL, NULL, NULL, NULL, NULL
         FROM lineage_edges e JOIN lineage_nodes n ON n.node_key = e.source_key WHERE e.target_key = $1 LIMIT $2)
        UNION ALL
        (SELECT 'target', n.kind, n.namespace, n.name, n.first_seen, n.last_seen, n.events, NULL, NULL, NULL, NULL, NULL
         FROM lineage_edges e JOIN lineage_nodes n ON n.node_key = e.target_key WHERE e.source_key = $1 LIMIT $2)
        UNION ALL
        (SELECT 'run', NULL, NULL, NULL, first_seen, last_seen, events, NULL, run_id, state, started_at, ended_at
         FROM lineage_runs WHERE job_key = $1 ORDER BY first_seen DESC LIMIT $3)",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};

/// Edges by the primary key on the way down and by `lineage_edges_target` on the way up, nodes by their primary key.
///
/// A row of the walk is a level, down and up together: its new nodes, all nodes so far in either direction, and the
/// edges that led there. So every node is visited once per direction, at its least depth, and a cycle ends where it
/// closes. The reads of a level are bounded by the number of edges that the answer may still have, however many a node
/// has, and no level begins after the time budget.
///
/// A level reads one edge more than it may, and takes one node more, so that the answer can report that there are more.
/// If there are too many nodes, their keys decide which are taken, so that the same question has the same answer. The
/// two directions may meet, as in a cycle; they are counted as one only when the sum is too large, because that takes
/// time. Edges that both directions read count twice, so an answer with a large cycle may report more where there is no
/// more. A bound per direction would cost every large walk an eighth.
const GRAPH: Statement = Statement {
    name: "lineage_graph",
    sql: "
        WITH RECURSIVE walk AS (
            SELECT 0 AS depth, ARRAY(SELECT $1::uuid WHERE $2) AS below, ARRAY(SELECT $1::uuid WHERE $3) AS above,
                   ARRAY(SELECT $1::uuid WHERE $2) AS seen_below, ARRAY(SELECT $1::uuid WHERE $3) AS seen_above,
                   0 AS read, false AS late,
                   '{}'::uuid[] AS sources, '{}'::uuid[] AS targets, '{}'::timestamptz[] AS firsts,
                   '{}'::timestamptz[] AS lasts, '{}'::bigint[] AS counts
            UNION ALL
            SELECT w.depth + 1, n.below, n.above, w.seen_below || n.below, w.seen_above || n.above,
                   w.read + coalesce(cardinality(n.sources), 0), clock_timestamp() > statement_timestamp() + make_interval(secs => $7),
                   n.sources, n.targets, n.firsts, n.lasts, n.counts
            FROM walk w CROSS JOIN LATERAL (
                WITH level AS MATERIALIZED (
                    (SELECT true AS down, e.* FROM unnest(w.below) AS f (node_key) CROSS JOIN LATERAL (
                         SELECT source_key, target_key, first_seen, last_seen, events FROM lineage_edges
                         WHERE source_key = f.node_key LIMIT $6 + 1 - w.read) AS e
                     UNION ALL
                     SELECT false, e.* FROM unnest(w.above) AS f (node_key) CROSS JOIN LATERAL (
                         SELECT source_key, target_key, first_seen, last_seen, events FROM lineage_edges
                         WHERE target_key = f.node_key LIMIT $6 + 1 - w.read) AS e)
                    LIMIT $6 + 1 - w.read
                )
                SELECT ARRAY(SELECT target_key FROM level WHERE down EXCEPT SELECT unnest(w.seen_below)
                             ORDER BY 1 LIMIT $5 + 1 - cardinality(w.seen_below)) AS below,
                       ARRAY(SELECT source_key FROM level WHERE NOT down EXCEPT SELECT unnest(w.seen_above)
                             ORDER BY 1 LIMIT $5 + 1 - cardinality(w.seen_above)) AS above,
                       array_agg(source_key) AS sources, array_agg(target_key) AS targets, array_agg(first_seen) AS firsts,
                       array_agg(last_seen) AS lasts, array_agg(events) AS counts
                FROM level
            ) AS n
            WHERE w.depth < $4 AND cardinality(w.below) + cardinality(w.above) > 0 AND w.read <= $6 AND NOT w.late
              AND (cardinality(w.seen_below) + cardinality(w.seen_above) <= $5
                   OR (SELECT count(*) FROM (SELECT unnest(w.seen_below) UNION SELECT unnest(w.seen_above)) AS u) <= $5)
        ),
        found AS MATERIALIZED (
            SELECT node_key, min(depth) AS depth FROM walk CROSS JOIN LATERAL unnest(below || above) AS f (node_key)
            GROUP BY node_key ORDER BY 2, 1 LIMIT $5 + 1
        )
        SELECT f.depth, f.node_key, NULL::uuid AS target_key, n.kind, n.namespace, n.name, n.first_seen, n.last_seen,
               n.events, NULL::boolean AS late
        FROM (SELECT * FROM found ORDER BY node_key) AS f JOIN lineage_nodes n ON n.node_key = f.node_key
        UNION ALL
        SELECT w.depth, e.source, e.target, NULL, NULL, NULL, e.first, e.last, e.count, NULL
        FROM walk w CROSS JOIN LATERAL unnest(w.sources, w.targets, w.firsts, w.lasts, w.counts)
            AS e (source, target, first, last, count)
        WHERE e.source IN (SELECT node_key FROM found) AND e.target IN (SELECT node_key FROM found)
        UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, late
        FROM walk
        WHERE read > $6 OR (late AND depth < $4 AND cardinality(below) + cardinality(above) > 0)",
    types: &[
        Type::UUID,
        Type::BOOL,
        Type::BOOL,
        Type::INT4,
        Type::INT4,
        Type::INT4,
        Type::FLOAT8,
    ],
};

/// The run by its primary key, its job by the job's primary key, its events by `lineage_events_run` of every day. The
/// length of a body is known without reading the body.
const RUN: Statement = Statement {
    name: "lineage_run",
    sql: "
        SELECT r.run_id, r.state, r.started_at, r.ended_at, r.first_seen, r.last_seen, r.events,
               n.kind, n.namespace, n.name, e.event_hash, e.event_time, e.event_state, e.received_at, e.body
        FROM lineage_runs r
        LEFT JOIN lineage_nodes n ON n.node_key = r.job_key
        LEFT JOIN LATERAL (
            SELECT event_hash, event_time, state AS event_state, received_at,
                   CASE WHEN sum(octet_length(body)) OVER (ORDER BY event_time DESC, event_hash DESC) <= $3 THEN body END
                       AS body
            FROM (
                SELECT * FROM lineage_events WHERE run_id = $1 ORDER BY event_time DESC, event_hash DESC LIMIT $2
            ) AS newest
        ) AS e ON true
        WHERE r.run_id = $1
        ORDER BY e.event_time DESC, e.event_hash DESC",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};

/// By `lineage_nodes_words`.
const SEARCH: Statement = Statement {
    name: "search_lineage",
    sql: "
        SELECT kind, namespace, name, first_seen, last_seen, events
        FROM (SELECT * FROM lineage_nodes WHERE words @@ $1::text::tsquery LIMIT $2) AS found
        ORDER BY last_seen DESC, kind, namespace, name
        LIMIT $3",
    types: &[Type::TEXT, Type::INT8, Type::INT8],
};

#[async_trait]
impl LineageStore for PostgresStore {
    async fn ingest(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested> {
        self.keep_lineage(events, now).await
    }

    async fn nodes(&self, keys: &[NodeKey]) -> PortResult<Vec<LineageNode>> {
        let keys: Vec<Uuid> = keys.iter().copied().map(key).collect();
        let rows = self.db.rows(&NODES, &[&keys]).await?;
        rows.iter().map(|row| node(&Columns(row))).collect()
    }

    async fn node(&self, of: NodeKey) -> PortResult<Option<NodeDetail>> {
        let rows = self.db.rows(&NODE, &[&key(of), &i64::from(NEIGHBOURS), &i64::from(RUNS)]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        if Columns(first).get::<&str>("side")? != "self" {
            return Ok(None);
        }
        let mut detail = NodeDetail {
            node: node(&Columns(first))?,
            facets: Columns(first).facets("facets")?,
            sources: Vec::new(),
            targets: Vec::new(),
            runs: Vec::new(),
        };
        for row in &rows[1..] {
            let row = Columns(row);
            match row.get("side")? {
                "source" => detail.sources.push(node(&row)?),
                "target" => detail.targets.push(node(&row)?),
                _ => detail.runs.push(run(&row)?),
            }
        }
        Ok(Some(detail))
    }

    async fn graph(&self, walk: &GraphWalk) -> PortResult<Option<Arc<Graph>>> {
        let small = |count: u32| i32::try_from(count).unwrap_or(i32::MAX - 1);
        let rows = self
            .db
            .rows(
                &GRAPH,
                &[
                    &key(walk.root),
                    &walk.direction.goes_down(),
                    &walk.direction.goes_up(),
                    &small(walk.depth),
                    &small(walk.nodes),
                    &small(walk.edges),
                    &walk.budget.as_secs_f64(),
                ],
            )
            .await?;
        Ok(graph(&rows, walk)?.map(Arc::new))
    }

    async fn run(&self, id: RunId) -> PortResult<Option<RunDetail>> {
        let rows = self.db.rows(&RUN, &[&id.as_uuid(), &i64::from(EVENTS), &signed(BODY_BYTES)]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let job = match Columns(first).get::<Option<&str>>("kind")? {
            Some(_) => Some(node_name(&Columns(first))?),
            None => None,
        };
        let mut history = Vec::new();
        for row in &rows {
            let row = Columns(row);
            if let Some(hash) = row.get::<Option<&[u8]>>("event_hash")? {
                history.push(StoredEvent {
                    hash: EventHash(bytes_32("event_hash", hash)?),
                    time: row.get("event_time")?,
                    state: state(&row, "event_state")?,
                    received_at: row.get("received_at")?,
                    body: row.get("body")?,
                });
            }
        }
        Ok(Some(RunDetail { run: run(&Columns(first))?, job, history }))
    }

    async fn search(&self, words: &[String], limit: u32) -> PortResult<Vec<LineageNode>> {
        // Words are letters and digits, so they need no escapes.
        let query = words.iter().map(|word| format!("'{word}':*")).collect::<Vec<_>>().join(" & ");
        let rows = self.db.rows(&SEARCH, &[&query, &i64::from(SEARCHED), &i64::from(limit)]).await?;
        rows.iter().map(|row| node(&Columns(row))).collect()
    }
}

fn state(row: &Columns<'_>, column: &str) -> PortResult<Option<RunState>> {
    match row.get::<Option<&str>>(column)? {
        Some(_) => row.word(column, RunState::parse).map(Some),
        None => Ok(None),
    }
}

fn run(row: &Columns<'_>) -> PortResult<RunSummary> {
    Ok(RunSummary {
        run_id: RunId::from_uuid(row.get("run_id")?),
        state: state(row, "state")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        first_seen: row.get("first_seen")?,
        last_seen: row.get("last_seen")?,
        events: row.amount("events")?,
    })
}

/// Nodes, the edges between them, and whether the walk was cut. Nodes and edges beyond the bounds only show that there
/// are more.
fn graph(rows: &[Row], walk: &GraphWalk) -> PortResult<Option<Graph>> {
    let mut nodes: Vec<(NodeKey, GraphNode)> = Vec::new();
    let mut edges: Vec<LineageEdge> = Vec::new();
    let (mut truncated, mut late) = (false, false);
    for row in rows {
        let row = Columns(row);
        if let Some(by_budget) = row.get::<Option<bool>>("late")? {
            truncated = true;
            late |= by_budget;
            continue;
        }
        let source = node_key(&row, "node_key")?;
        if let Some(target) = row.get::<Option<Uuid>>("target_key")? {
            let target = NodeKey(target.into_bytes());
            let (first_seen, last_seen) = (row.get("first_seen")?, row.get("last_seen")?);
            edges.push(LineageEdge { source, target, first_seen, last_seen, events: row.amount("events")? });
        } else {
            let depth = u32::try_from(row.get::<i32>("depth")?).unwrap_or(0);
            nodes.push((source, GraphNode { node: node(&row)?, depth }));
        }
    }
    nodes.sort_unstable_by_key(|(key, node)| (node.depth, *key));
    if nodes.first().is_none_or(|(key, _)| *key != walk.root) {
        return Ok(None);
    }
    truncated |= nodes.len() > walk.nodes as usize;
    let beyond = nodes.split_off(nodes.len().min(walk.nodes as usize));
    edges.retain(|edge| !beyond.iter().any(|(key, _)| *key == edge.source || *key == edge.target));
    // An edge of a cycle may have been read in both directions.
    edges.sort_unstable_by_key(|edge| (edge.source, edge.target));
    edges.dedup_by_key(|edge| (edge.source, edge.target));
    truncated |= edges.len() > walk.edges as usize;
    edges.truncate(walk.edges as usize);
    Ok(Some(Graph { nodes: nodes.into_iter().map(|(_, node)| node).collect(), edges, truncated, late }))
}
