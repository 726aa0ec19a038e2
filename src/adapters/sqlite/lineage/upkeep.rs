//! The sliding window: removes old days, the excess of a namespace, and rows without references, in small steps.
//!
//! A step blocks the only writer; the pruner chooses the size of its steps to keep that time short.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use penstock_actors::{
    lineage::event::{day_of, start_of},
    model::NamespaceKey,
    ports::{LeasedTask, LineageGraphUpkeep, LineageUpkeep, PortResult, TaskLease, WindowState},
};
use rusqlite::{Connection, Row, named_params};

use super::super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
    error::JobFailure,
    task_leases,
};

/// Served by the primary key.
pub(in super::super) const DROP_OLD: &str = "
    DELETE FROM lineage_events WHERE rowid IN (
        SELECT rowid FROM lineage_events WHERE event_time < :before ORDER BY event_time, event_hash LIMIT :limit)
    RETURNING event_time, event_hash, namespace_key, run_id";

/// Served by `lineage_events_namespace`.
pub(in super::super) const TRIM: &str = "
    DELETE FROM lineage_events WHERE rowid IN (
        SELECT rowid FROM lineage_events WHERE namespace_key = :namespace ORDER BY event_time, event_hash LIMIT :limit)
    RETURNING event_time, event_hash, namespace_key, run_id";

/// Served by the primary key.
pub(in super::super) const MOVE_WINDOW: &str = "
    UPDATE lineage_namespaces SET pruned_until = :time, pruned_hash = :hash
    WHERE namespace_key = :namespace AND (pruned_until, pruned_hash) < (:time, :hash)";

/// Served by the primary key.
pub(in super::super) const UNCOUNT: &str = "
    UPDATE lineage_event_counts SET events = events - :events WHERE day = :day AND namespace_key = :namespace";

/// Served by the primary key.
pub(in super::super) const FORGET_COUNT: &str = "
    DELETE FROM lineage_event_counts WHERE day = :day AND namespace_key = :namespace AND events = 0";

/// Served by the primary key. Deletes the zero counts that earlier versions left for days without events.
pub(in super::super) const FORGET_COUNTS: &str = "
    DELETE FROM lineage_event_counts WHERE (day, namespace_key) IN (
        SELECT day, namespace_key FROM lineage_event_counts WHERE day < :day LIMIT :limit)";

/// Served by the primary key, events by `lineage_events_run`: the events of a run may be in several namespaces.
pub(in super::super) const FORGET_RUN: &str = "
    DELETE FROM lineage_runs WHERE run_id = :run AND NOT EXISTS (
        SELECT 1 FROM lineage_events e WHERE e.run_id = lineage_runs.run_id)";

/// One row per namespace and day.
pub(in super::super) const CROWDED: &str = "
    SELECT namespace_key, sum(events) - :most AS excess FROM lineage_event_counts
    GROUP BY namespace_key HAVING sum(events) > :most ORDER BY 2 DESC LIMIT :limit";

/// Served by `lineage_runs_last_day`.
pub(in super::super) const PRUNE_RUNS: &str = "
    DELETE FROM lineage_runs WHERE last_day < :day AND run_id IN (
        SELECT run_id FROM lineage_runs WHERE last_day < :day ORDER BY last_day LIMIT :limit)";

/// Served by `lineage_edges_last_day`.
pub(in super::super) const PRUNE_EDGES: &str = "
    DELETE FROM lineage_edges WHERE (source_key, target_key) IN (
        SELECT source_key, target_key FROM lineage_edges WHERE last_day < :day ORDER BY last_day LIMIT :limit)";

/// Served by `lineage_nodes_last_day`, edges by their primary key and `lineage_edges_target`. Bounded once no old edge
/// is left, because then no old node has edges.
pub(in super::super) const PRUNE_NODES: &str = "
    DELETE FROM lineage_nodes WHERE node_id IN (
        SELECT node_id FROM lineage_nodes n WHERE last_day < :day
            AND NOT EXISTS (SELECT 1 FROM lineage_edges e WHERE e.source_key = n.node_key)
            AND NOT EXISTS (SELECT 1 FROM lineage_edges e WHERE e.target_key = n.node_key)
        ORDER BY last_day LIMIT :limit)";

/// Namespaces are few compared with the rest: a reader scans all of them, so that the writer need not. Events by
/// `lineage_events_namespace`.
pub(in super::super) const EMPTY_NAMESPACES: &str = "
    SELECT namespace_key FROM lineage_namespaces n WHERE pruned_until < :before
        AND NOT EXISTS (SELECT 1 FROM lineage_events e WHERE e.namespace_key = n.namespace_key)
    LIMIT :limit";

/// Served by the primary key, events by `lineage_events_namespace`: an event may have arrived meanwhile.
pub(in super::super) const FORGET_NAMESPACE: &str = "
    DELETE FROM lineage_namespaces WHERE namespace_key = :namespace AND pruned_until < :before
        AND NOT EXISTS (SELECT 1 FROM lineage_events e WHERE e.namespace_key = lineage_namespaces.namespace_key)";

/// One row per namespace and day.
pub(in super::super) const WINDOW: &str = "
    SELECT ifnull(sum(events), 0) AS events, ifnull(sum(max(events - :most, 0)), 0) AS excess, min(oldest) AS oldest
    FROM (
        SELECT sum(events) AS events, min(day) FILTER (WHERE events > 0) AS oldest
        FROM lineage_event_counts GROUP BY namespace_key)";

/// Fails unless the lease of the pruner is still held.
fn held(conn: &Connection, lease: TaskLease) -> Result<(), JobFailure> {
    task_leases::held(conn, &LeasedTask::PruneLineage.to_string(), lease)
}

/// A removed event.
struct RemovedEvent {
    time: Timestamp,
    hash: Vec<u8>,
    namespace: NamespaceKey,
    run: Option<penstock_actors::ids::RunId>,
}

fn gone(row: &Row<'_>) -> rusqlite::Result<RemovedEvent> {
    Ok(RemovedEvent {
        time: get(row, "event_time")?,
        hash: row.get("event_hash")?,
        namespace: get(row, "namespace_key")?,
        run: get_opt(row, "run_id")?,
    })
}

/// Subtracts removed events from the counts. The count of a day without events is deleted.
fn uncount(conn: &Connection, events: &[RemovedEvent]) -> rusqlite::Result<()> {
    let mut counts = HashMap::<(Date, NamespaceKey), u64>::new();
    for event in events {
        *counts.entry((day_of(event.time), event.namespace)).or_default() += 1;
    }
    let (mut uncount, mut forget) = (conn.prepare_cached(UNCOUNT)?, conn.prepare_cached(FORGET_COUNT)?);
    for ((day, namespace), events) in counts {
        uncount.execute(named_params! { ":day": Sql(day), ":namespace": Sql(namespace), ":events": Sql(events) })?;
        forget.execute(named_params! { ":day": Sql(day), ":namespace": Sql(namespace) })?;
    }
    Ok(())
}

fn drop_days(conn: &Connection, lease: TaskLease, day: Date, limit: u32) -> Result<Option<u64>, JobFailure> {
    held(conn, lease)?;
    let old = named_params! { ":before": Sql(start_of(day)), ":limit": limit };
    let events = conn.prepare_cached(DROP_OLD)?.query_map(old, gone)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if events.is_empty() {
        conn.prepare_cached(FORGET_COUNTS)?.execute(named_params! { ":day": Sql(day), ":limit": limit })?;
        return Ok(None);
    }
    uncount(conn, &events)?;
    Ok(Some(events.len() as u64))
}

fn forget_namespaces(
    conn: &Connection,
    lease: TaskLease,
    before: Timestamp,
    namespaces: &[NamespaceKey],
) -> Result<u64, JobFailure> {
    held(conn, lease)?;
    let mut forget = conn.prepare_cached(FORGET_NAMESPACE)?;
    let mut gone = 0;
    for namespace in namespaces {
        gone += forget.execute(named_params! { ":namespace": Sql(*namespace), ":before": Sql(before) })? as u64;
    }
    Ok(gone)
}

fn trim(conn: &Connection, lease: TaskLease, namespace: NamespaceKey, limit: u32) -> Result<u64, JobFailure> {
    held(conn, lease)?;
    let oldest = named_params! { ":namespace": Sql(namespace), ":limit": limit };
    let events = conn.prepare_cached(TRIM)?.query_map(oldest, gone)?.collect::<rusqlite::Result<Vec<_>>>()?;
    uncount(conn, &events)?;
    if let Some(last) = events.iter().max_by_key(|event| (event.time, &event.hash)) {
        conn.prepare_cached(MOVE_WINDOW)?.execute(named_params! {
            ":namespace": Sql(namespace), ":time": Sql(last.time), ":hash": last.hash,
        })?;
    }
    let mut forget = conn.prepare_cached(FORGET_RUN)?;
    for run in events.iter().filter_map(|event| event.run) {
        forget.execute(named_params! { ":run": Sql(run) })?;
    }
    Ok(events.len() as u64)
}

impl SqliteStore {
    /// A step that is one statement with a day and a limit.
    async fn prune(
        &self,
        (name, sql): (&'static str, &'static str),
        lease: TaskLease,
        day: Date,
        limit: u32,
    ) -> PortResult<u64> {
        let step = move |conn: &Connection| {
            held(conn, lease)?;
            let old = named_params! { ":day": Sql(day), ":limit": limit };
            Ok(conn.prepare_cached(sql)?.execute(old)? as u64)
        };
        self.workers.write(name, step).await
    }
}

#[async_trait]
impl LineageUpkeep for SqliteStore {
    async fn prepare_days(&self, _: &[Date]) -> PortResult<u64> {
        Ok(0)
    }

    async fn drop_days(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<Option<u64>> {
        self.workers.write("drop_lineage_days", move |conn| drop_days(conn, lease, day, limit)).await
    }

    async fn oversized_namespaces(&self, most: u64, limit: u32) -> PortResult<Vec<(NamespaceKey, u64)>> {
        let oversized_namespaces = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(CROWDED)?;
            let bound = named_params! { ":most": Sql(most.min(i64::MAX as u64)), ":limit": limit };
            let rows = statement.query_map(bound, |row| Ok((get(row, "namespace_key")?, get(row, "excess")?)))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        };
        self.workers.read("crowded_lineage", oversized_namespaces).await
    }

    async fn trim(&self, lease: TaskLease, namespace: NamespaceKey, limit: u32) -> PortResult<u64> {
        self.workers.write("trim_lineage", move |conn| trim(conn, lease, namespace, limit)).await
    }

    async fn prune_runs(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune(("prune_lineage_runs", PRUNE_RUNS), lease, day, limit).await
    }

    async fn prune_namespaces(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        let before = start_of(day);
        let empty = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(EMPTY_NAMESPACES)?;
            let wanted = named_params! { ":before": Sql(before), ":limit": limit };
            let keys = statement.query_map(wanted, |row| get(row, "namespace_key"))?;
            Ok(keys.collect::<rusqlite::Result<Vec<NamespaceKey>>>()?)
        };
        let empty = self.workers.read("empty_lineage_namespaces", empty).await?;
        let forget = move |conn: &Connection| forget_namespaces(conn, lease, before, &empty);
        self.workers.write("prune_lineage_namespaces", forget).await
    }

    async fn window(&self, most: u64) -> PortResult<WindowState> {
        let window = move |conn: &Connection| {
            let bound = named_params! { ":most": Sql(most.min(i64::MAX as u64)) };
            let state = conn.prepare_cached(WINDOW)?.query_row(bound, |row| {
                Ok(WindowState {
                    events: get(row, "events")?,
                    excess: get(row, "excess")?,
                    oldest_day: get_opt(row, "oldest")?,
                })
            })?;
            Ok(state)
        };
        self.workers.read("lineage_window", window).await
    }
}

#[async_trait]
impl LineageGraphUpkeep for SqliteStore {
    async fn prune_edges(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune(("prune_lineage_edges", PRUNE_EDGES), lease, day, limit).await
    }

    async fn prune_nodes(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune(("prune_lineage_nodes", PRUNE_NODES), lease, day, limit).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_actors::ports::TaskLeases as _;
    use uuid::Uuid;

    use super::{super::super::testing::Database, *};

    /// Counts after events have been removed by age and by number.
    #[tokio::test]
    async fn no_count_of_nothing_stays() {
        let database = Database::new();
        let store = database.open();
        let conn = database.raw();
        conn.execute_batch(
            "INSERT INTO lineage_events SELECT 86400000000 * value + 1, CAST(printf('%032d', value) AS BLOB), zeroblob(16), 'job', NULL,
                NULL, 1, '{}' FROM json_each('[1, 2, 3, 4]');
             INSERT INTO lineage_event_counts SELECT value, zeroblob(16), 1 FROM json_each('[1, 2, 3, 4]');
             INSERT INTO lineage_event_counts SELECT 0, CAST(printf('%016d', value) AS BLOB), 0 FROM json_each('[1, 2, 3]')",
        )
        .expect("rows");
        let counts = || {
            let mut days = conn.prepare("SELECT day FROM lineage_event_counts ORDER BY day").expect("a statement");
            days.query_map([], |row| row.get(0)).expect("rows").collect::<rusqlite::Result<Vec<i64>>>().expect("days")
        };
        let lease = store.acquire(LeasedTask::PruneLineage, Uuid::nil(), Duration::from_secs(600)).await;
        let lease = lease.expect("an answer").expect("free");
        assert_eq!(store.trim(lease, NamespaceKey([0; 16]), 1).await.expect("held"), 1);
        assert_eq!(counts(), [0, 0, 0, 2, 3, 4]);
        let day = |day| Date::constant(1970, 1, day);
        assert_eq!(store.drop_days(lease, day(4), 10).await.expect("held"), Some(1));
        assert_eq!(counts(), [0, 0, 0, 3, 4]);
        assert_eq!(store.drop_days(lease, day(4), 2).await.expect("held"), None);
        assert_eq!(counts(), [0, 3, 4], "what was left behind goes a few at a time");
        assert_eq!(store.drop_days(lease, day(4), 2).await.expect("held"), None);
        assert_eq!(counts(), [3, 4]);
    }
}
