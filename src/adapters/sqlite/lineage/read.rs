//! Reads of the graph: walks, nodes, runs, search.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::RunId,
    model::{
        Graph, GraphNode, GraphWalk, LineageEdge, LineageEvent, LineageNode, NodeDetail, NodeKey, RunDetail,
        RunSummary, StoredEvent,
    },
    ports::{BODY_BYTES, EVENTS, Ingested, LineageStore, NEIGHBOURS, PortResult, RUNS, SEARCHED},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    super::{
        SqliteStore,
        columns::{Sql, get, get_opt},
        error::JobFailure,
    },
    ingest, name_from, node_from,
};

/// Served by the index of its uniqueness. Without facets, which may be megabytes per node: a walk reads thousands of
/// nodes.
pub(in super::super) const NODE: &str = "
    SELECT kind, namespace, name, first_seen, last_seen, events FROM lineage_nodes WHERE node_key = :key";

/// Served by `lineage_edges_target`, nodes by their key.
pub(in super::super) const SOURCES: &str = "
    SELECT n.kind, n.namespace, n.name, n.first_seen, n.last_seen, n.events
    FROM lineage_edges e JOIN lineage_nodes n ON n.node_key = e.source_key WHERE e.target_key = :key LIMIT :limit";

/// Served by the primary key, nodes by their key.
pub(in super::super) const TARGETS: &str = "
    SELECT n.kind, n.namespace, n.name, n.first_seen, n.last_seen, n.events
    FROM lineage_edges e JOIN lineage_nodes n ON n.node_key = e.target_key WHERE e.source_key = :key LIMIT :limit";

/// Served by `lineage_runs_job`.
pub(in super::super) const RUNS_OF_JOB: &str = "
    SELECT run_id, state, started_at, ended_at, first_seen, last_seen, events
    FROM lineage_runs WHERE job_key = :key ORDER BY first_seen DESC LIMIT :limit";

/// Served by the primary key.
pub(in super::super) const EDGES_DOWN: &str = "
    SELECT source_key, target_key, first_seen, last_seen, events FROM lineage_edges WHERE source_key = :key LIMIT :limit";

/// Served by `lineage_edges_target`.
pub(in super::super) const EDGES_UP: &str = "
    SELECT source_key, target_key, first_seen, last_seen, events FROM lineage_edges WHERE target_key = :key LIMIT :limit";

/// Served by the primary key, the job by its key.
pub(in super::super) const RUN: &str = "
    SELECT r.run_id, r.state, r.started_at, r.ended_at, r.first_seen, r.last_seen, r.events, n.kind, n.namespace, n.name
    FROM lineage_runs r LEFT JOIN lineage_nodes n ON n.node_key = r.job_key WHERE r.run_id = :run";

/// Served by `lineage_events_run`.
pub(in super::super) const EVENTS_OF_RUN: &str = "
    SELECT event_hash, event_time, state, received_at, body FROM lineage_events
    WHERE run_id = :run ORDER BY event_time DESC, event_hash DESC LIMIT :limit";

/// Served by the index of words.
pub(in super::super) const SEARCH: &str = "
    SELECT kind, namespace, name, first_seen, last_seen, events FROM lineage_nodes
    WHERE node_id IN (SELECT rowid FROM lineage_words WHERE lineage_words MATCH :words LIMIT :most)
    ORDER BY last_seen DESC, kind, namespace, name LIMIT :limit";

#[async_trait]
impl LineageStore for SqliteStore {
    async fn ingest(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested> {
        let events = events.to_vec();
        self.workers.write("ingest_lineage", move |conn| ingest::ingest(conn, &events, now)).await
    }

    async fn nodes(&self, keys: &[NodeKey]) -> PortResult<Vec<LineageNode>> {
        let keys = keys.to_vec();
        let known = move |conn: &Connection| {
            let mut nodes = Vec::new();
            for key in keys {
                nodes.extend(node(conn, key)?);
            }
            Ok(nodes)
        };
        self.workers.read("lineage_nodes", known).await
    }

    async fn node(&self, key: NodeKey) -> PortResult<Option<NodeDetail>> {
        self.workers.read("lineage_node", move |conn| Ok(detail(conn, key)?)).await
    }

    async fn graph(&self, walk: &GraphWalk) -> PortResult<Option<Arc<Graph>>> {
        let walk = *walk;
        self.workers.read("lineage_graph", move |conn| Ok(graph(conn, &walk)?.map(Arc::new))).await
    }

    async fn run(&self, id: RunId) -> PortResult<Option<RunDetail>> {
        self.workers.read("lineage_run", move |conn| run(conn, id)).await
    }

    async fn search(&self, words: &[String], limit: u32) -> PortResult<Vec<LineageNode>> {
        // Words are letters and digits, so they need no escapes.
        let query = words.iter().map(|word| format!("\"{word}\"*")).collect::<Vec<_>>().join(" AND ");
        let search = move |conn: &Connection| {
            let wanted = named_params! { ":words": query, ":most": SEARCHED, ":limit": limit };
            let mut statement = conn.prepare_cached(SEARCH)?;
            let found = statement.query_map(wanted, node_from)?;
            Ok(found.collect::<rusqlite::Result<Vec<_>>>()?)
        };
        self.workers.read("search_lineage", search).await
    }
}

fn node(conn: &Connection, key: NodeKey) -> rusqlite::Result<Option<LineageNode>> {
    conn.prepare_cached(NODE)?.query_row(named_params! { ":key": Sql(key) }, node_from).optional()
}

fn detail(conn: &Connection, key: NodeKey) -> rusqlite::Result<Option<NodeDetail>> {
    let Some(node) = node(conn, key)? else { return Ok(None) };
    let facets = ingest::facets_of(conn, key)?;
    let neighbours = |sql| {
        let of = named_params! { ":key": Sql(key), ":limit": NEIGHBOURS };
        conn.prepare_cached(sql)?.query_map(of, node_from)?.collect::<rusqlite::Result<Vec<_>>>()
    };
    let (sources, targets) = (neighbours(SOURCES)?, neighbours(TARGETS)?);
    let of = named_params! { ":key": Sql(key), ":limit": RUNS };
    let runs = conn.prepare_cached(RUNS_OF_JOB)?.query_map(of, run_from)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(NodeDetail { node, facets, sources, targets, runs }))
}

fn run_from(row: &Row<'_>) -> rusqlite::Result<RunSummary> {
    Ok(RunSummary {
        run_id: get(row, "run_id")?,
        state: get_opt(row, "state")?,
        started_at: get_opt(row, "started_at")?,
        ended_at: get_opt(row, "ended_at")?,
        first_seen: get(row, "first_seen")?,
        last_seen: get(row, "last_seen")?,
        events: get(row, "events")?,
    })
}

fn run(conn: &Connection, id: RunId) -> Result<Option<RunDetail>, JobFailure> {
    let from_row = |row: &Row<'_>| {
        let job = match row.get::<_, Option<String>>("kind")? {
            Some(_) => Some(name_from(row)?),
            None => None,
        };
        Ok((run_from(row)?, job))
    };
    let found = conn.prepare_cached(RUN)?.query_row(named_params! { ":run": Sql(id) }, from_row).optional()?;
    let Some((run, job)) = found else { return Ok(None) };
    let mut statement = conn.prepare_cached(EVENTS_OF_RUN)?;
    let mut rows = statement.query(named_params! { ":run": Sql(id), ":limit": EVENTS })?;
    let mut history = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let body = row.get_ref("body")?.as_str().map_err(rusqlite::Error::from)?;
        bytes += body.len() as u64;
        history.push(StoredEvent {
            hash: get(row, "event_hash")?,
            time: get(row, "event_time")?,
            state: get_opt(row, "state")?,
            received_at: get(row, "received_at")?,
            body: (bytes <= BODY_BYTES).then(|| body.to_owned()),
        });
    }
    Ok(Some(RunDetail { run, job, history }))
}

/// The nodes that walks have reached, and the edges that they took.
#[derive(Default)]
struct WalkResult {
    depths: HashMap<NodeKey, u32>,
    edges: HashMap<(NodeKey, NodeKey), LineageEdge>,
    late: bool,
}

fn graph(conn: &Connection, walk: &GraphWalk) -> rusqlite::Result<Option<Graph>> {
    let began = Instant::now();
    let Some(root) = node(conn, walk.root)? else { return Ok(None) };
    let mut found = WalkResult::default();
    found.depths.insert(walk.root, 0);
    if walk.direction.goes_down() {
        search(conn, walk, EDGES_DOWN, |edge| edge.target, began, &mut found)?;
    }
    if walk.direction.goes_up() {
        search(conn, walk, EDGES_UP, |edge| edge.source, began, &mut found)?;
    }
    let WalkResult { mut depths, edges, mut late } = found;
    let truncated = depths.len() > walk.nodes as usize || edges.len() > walk.edges as usize;
    depths.remove(&walk.root);
    let mut by_depth: Vec<_> = depths.into_iter().collect();
    by_depth.sort_unstable_by_key(|(key, depth)| (*depth, *key));
    by_depth.truncate((walk.nodes as usize).saturating_sub(1));
    let mut nodes = vec![GraphNode { node: root, depth: 0 }];
    let mut known = HashSet::from([walk.root]);
    for (key, depth) in by_depth {
        if began.elapsed() > walk.budget {
            late = true;
            break;
        }
        if let Some(node) = node(conn, key)? {
            nodes.push(GraphNode { node, depth });
            known.insert(key);
        }
    }
    let mut edges: Vec<_> =
        edges.into_values().filter(|edge| known.contains(&edge.source) && known.contains(&edge.target)).collect();
    edges.sort_unstable_by_key(|edge| (edge.source, edge.target));
    edges.truncate(walk.edges as usize);
    Ok(Some(Graph { nodes, edges, truncated: truncated || late, late }))
}

/// A breadth-first search: a node is visited once, at its least depth, so cycles end where they close. It reads one
/// node and one edge more than the limits, so that the answer can report that there are more.
fn search(
    conn: &Connection,
    walk: &GraphWalk,
    edges_of: &str,
    far_end: impl Fn(&LineageEdge) -> NodeKey,
    began: Instant,
    found: &mut WalkResult,
) -> rusqlite::Result<()> {
    let mut seen = HashSet::from([walk.root]);
    let mut queue = VecDeque::from([(walk.root, 0)]);
    let mut read = 0;
    let mut statement = conn.prepare_cached(edges_of)?;
    while let Some((key, depth)) = queue.pop_front() {
        if depth == walk.depth {
            break;
        }
        if read > walk.edges || seen.len() > walk.nodes as usize {
            break;
        }
        if began.elapsed() > walk.budget {
            found.late = true;
            break;
        }
        let left = walk.edges + 1 - read;
        let mut rows = statement.query(named_params! { ":key": Sql(key), ":limit": left })?;
        while let Some(row) = rows.next()? {
            read += 1;
            let edge = edge_from(row)?;
            found.edges.insert((edge.source, edge.target), edge);
            let far = far_end(&edge);
            if seen.len() <= walk.nodes as usize && seen.insert(far) {
                let least = found.depths.entry(far).or_insert(depth + 1);
                *least = (*least).min(depth + 1);
                queue.push_back((far, depth + 1));
            }
        }
    }
    Ok(())
}

fn edge_from(row: &Row<'_>) -> rusqlite::Result<LineageEdge> {
    Ok(LineageEdge {
        source: get(row, "source_key")?,
        target: get(row, "target_key")?,
        first_seen: get(row, "first_seen")?,
        last_seen: get(row, "last_seen")?,
        events: get(row, "events")?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_actors::model::{Direction, NodeName};

    use super::{super::super::testing::Database, *};

    /// The nodes have facets that would be slow to read; here, reading them is an error.
    #[test]
    fn a_walk_and_a_look_up_read_no_facets() {
        let database = Database::new();
        let conn = database.raw();
        let names = [NodeName::dataset("db", "in"), NodeName::job("etl", "load")];
        for name in &names {
            let node =
                "INSERT INTO lineage_nodes (node_key, kind, namespace, name, words, facets, first_seen, last_seen,
                last_day, events) VALUES (?1, ?2, ?3, ?4, '', '\"none\"', 1, 1, 0, 1)";
            let values = (Sql(name.key()), Sql(name.kind), &name.namespace, &name.name);
            conn.execute(node, values).expect("a node");
        }
        let [from, to] = names.map(|name| name.key());
        let edge = "INSERT INTO lineage_edges VALUES (?1, ?2, 1, 1, 0, 1)";
        conn.execute(edge, (Sql(from), Sql(to))).expect("an edge");
        detail(&conn, from).expect_err("facets that are none");
        let walk =
            GraphWalk { root: from, direction: Direction::Both, depth: 2, nodes: 9, edges: 9, budget: Duration::MAX };
        let graph = graph(&conn, &walk).expect("an answer").expect("the root");
        assert_eq!((graph.nodes.len(), graph.edges.len(), graph.truncated), (2, 1, false));
        assert!(node(&conn, to).expect("an answer").is_some());
    }
}
