//! The sliding window: days leave it as whole partitions; the excess of a namespace, and rows without references, leave
//! it in small steps.
//!
//! A day is detached with `DETACH .. CONCURRENTLY`, which blocks no event, and dropped once it is detached. If that is
//! interrupted, the next step continues. The lease is checked before and not held meanwhile: if two instances drop a
//! day at once, it is dropped once.

use async_trait::async_trait;
use jiff::civil::Date;
use penstock_actors::{
    model::NamespaceKey,
    ports::{LineageGraphUpkeep, LineageUpkeep, PortResult, TaskLease, WindowState},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::{
    PostgresStore,
    columns::{Columns, signed},
    db::Statement,
};

/// The system catalogue.
const PREPARE_DAYS: Statement = Statement {
    name: "prepare_lineage",
    sql: "SELECT penstock_prepare_lineage($1) AS made",
    types: &[Type::DATE_ARRAY],
};

/// The system catalogue. The oldest day first. A day whose detaching was interrupted still belongs to the parent.
const OLD_DAYS: Statement = Statement {
    name: "old_lineage_days",
    sql: "
        WITH held AS MATERIALIZED (SELECT penstock_hold_lease('pruner', $2))
        SELECT oldest.* FROM held LEFT JOIN LATERAL (
            SELECT c.relname::text AS partition, i.inhparent IS NOT NULL AS attached,
                   coalesce(i.inhdetachpending, false) AS pending
            FROM pg_class c
            LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
            WHERE c.relkind = 'r'
              AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'lineage_events'::regclass)
              AND c.relname ~ '^lineage_events_\\d{4}_\\d{2}_\\d{2}$'
              AND to_date(right(c.relname, 10), 'YYYY_MM_DD') < $1
            ORDER BY 1
            LIMIT 1
        ) AS oldest ON true",
    types: &[Type::DATE, Type::INT8],
};

/// By the primary key. The counts of a day are subtracted when its partition is gone.
const FORGET_COUNTS: Statement = Statement {
    name: "forget_lineage_counts",
    sql: "
        WITH held AS MATERIALIZED (SELECT penstock_hold_lease('pruner', $1)),
        forgotten AS (DELETE FROM lineage_event_counts WHERE day < $2 RETURNING events)
        SELECT (SELECT coalesce(sum(events), 0)::bigint FROM forgotten) AS events FROM held",
    types: &[Type::INT8, Type::DATE],
};

/// One row per namespace and day.
const CROWDED: Statement = Statement {
    name: "crowded_lineage",
    sql: "
        SELECT namespace_key, (sum(events) - $1)::bigint AS excess
        FROM lineage_event_counts
        GROUP BY namespace_key HAVING sum(events) > $1
        ORDER BY 2 DESC
        LIMIT $2",
    types: &[Type::INT8, Type::INT8],
};

/// Events by `lineage_events_namespace`, inside the function.
const TRIM: Statement = Statement {
    name: "trim_lineage",
    sql: "SELECT penstock_trim_lineage($1, $2, $3) AS gone",
    types: &[Type::INT8, Type::UUID, Type::INT8],
};

/// By `lineage_runs_last_day`.
const PRUNE_RUNS: Statement = Statement {
    name: "prune_lineage_runs",
    sql: "
        WITH held AS MATERIALIZED (SELECT penstock_hold_lease('pruner', $1)),
        due AS MATERIALIZED (
            SELECT run_id FROM lineage_runs WHERE last_day < $2
            ORDER BY last_day LIMIT $3
            FOR UPDATE SKIP LOCKED
        ),
        gone AS (
            DELETE FROM lineage_runs r USING due WHERE r.run_id = due.run_id AND r.last_day < $2 RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) AS gone FROM held",
    types: &[Type::INT8, Type::DATE, Type::INT8],
};

/// By `lineage_edges_last_day`. Removals go to the change log, for walks in the caches of other instances.
const PRUNE_EDGES: Statement = Statement {
    name: "prune_lineage_edges",
    sql: "
        WITH held AS MATERIALIZED (SELECT penstock_hold_lease('pruner', $1)),
        due AS MATERIALIZED (
            SELECT source_key, target_key FROM lineage_edges WHERE last_day < $2
            ORDER BY last_day LIMIT $3
            FOR UPDATE SKIP LOCKED
        ),
        gone AS (
            DELETE FROM lineage_edges e USING due
            WHERE e.source_key = due.source_key AND e.target_key = due.target_key AND e.last_day < $2 RETURNING 1
        ),
        told AS (INSERT INTO change_log (tag) SELECT 'lineage:graph' FROM gone LIMIT 1)
        SELECT (SELECT count(*) FROM gone) AS gone FROM held",
    types: &[Type::INT8, Type::DATE, Type::INT8],
};

/// By `lineage_nodes_last_day`; edges by the primary key and by `lineage_edges_target`. Removals go to the change log.
const PRUNE_NODES: Statement = Statement {
    name: "prune_lineage_nodes",
    sql: "
        WITH held AS MATERIALIZED (SELECT penstock_hold_lease('pruner', $1)),
        due AS MATERIALIZED (
            SELECT node_key FROM lineage_nodes n
            WHERE last_day < $2
              AND NOT EXISTS (SELECT FROM lineage_edges e WHERE e.source_key = n.node_key)
              AND NOT EXISTS (SELECT FROM lineage_edges e WHERE e.target_key = n.node_key)
            ORDER BY last_day LIMIT $3
            FOR UPDATE SKIP LOCKED
        ),
        gone AS (
            DELETE FROM lineage_nodes n USING due WHERE n.node_key = due.node_key AND n.last_day < $2 RETURNING 1
        ),
        told AS (INSERT INTO change_log (tag) SELECT 'lineage:graph' FROM gone LIMIT 1)
        SELECT (SELECT count(*) FROM gone) AS gone FROM held",
    types: &[Type::INT8, Type::DATE, Type::INT8],
};

/// Namespaces are few compared with the rest: this reads all of them. Counts by their primary key, one day at a time.
const PRUNE_NAMESPACES: Statement = Statement {
    name: "prune_lineage_namespaces",
    sql: "
        WITH held AS MATERIALIZED (SELECT penstock_hold_lease('pruner', $1)),
        due AS MATERIALIZED (
            SELECT namespace_key FROM lineage_namespaces n
            WHERE pruned_until < $2::timestamp AT TIME ZONE 'UTC'
              AND NOT EXISTS (SELECT FROM lineage_event_counts c WHERE c.namespace_key = n.namespace_key)
            LIMIT $3
            FOR UPDATE SKIP LOCKED
        ),
        gone AS (
            DELETE FROM lineage_namespaces n USING due WHERE n.namespace_key = due.namespace_key RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) AS gone FROM held",
    types: &[Type::INT8, Type::DATE, Type::INT8],
};

/// One row per namespace and day.
const WINDOW: Statement = Statement {
    name: "lineage_window",
    sql: "
        SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(greatest(events - $1, 0)), 0)::bigint AS excess,
               min(oldest) AS oldest_day
        FROM (
            SELECT sum(events) AS events, min(day) FILTER (WHERE events > 0) AS oldest
            FROM lineage_event_counts GROUP BY namespace_key
        ) AS namespaces",
    types: &[Type::INT8],
};

impl PostgresStore {
    /// A step that is one statement with a day and a limit. The lease is locked before the first row is removed. The
    /// lease's row is the statement's result, with the number of removed rows.
    async fn prune_lineage(&self, step: &Statement, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        Columns(&self.upkeep.row(step, &[&lease.token, &day, &i64::from(limit)]).await?).amount("gone")
    }
}

#[async_trait]
impl LineageUpkeep for PostgresStore {
    async fn prepare_days(&self, days: &[Date]) -> PortResult<u64> {
        Columns(&self.upkeep.row(&PREPARE_DAYS, &[&days]).await?).amount("made")
    }

    async fn drop_days(&self, lease: TaskLease, day: Date, _limit: u32) -> PortResult<Option<u64>> {
        let row = self.upkeep.row(&OLD_DAYS, &[&day, &lease.token]).await?;
        let row = Columns(&row);
        let Some(partition) = row.get::<Option<&str>>("partition")? else {
            // The counts of these days are gone with them.
            self.upkeep.rows(&FORGET_COUNTS, &[&lease.token, &day]).await?;
            return Ok(None);
        };
        // The name consists of digits after a fixed prefix, so it needs no quotes.
        if row.get("attached")? {
            let how = if row.get("pending")? { "FINALIZE" } else { "CONCURRENTLY" };
            let detach = format!("ALTER TABLE lineage_events DETACH PARTITION {partition} {how}");
            self.upkeep.utility("detach_lineage_day", &detach).await?;
        }
        self.upkeep.utility("drop_lineage_day", &format!("DROP TABLE IF EXISTS {partition}")).await?;
        let day: Date = partition["lineage_events_".len()..].replace('_', "-").parse().unwrap_or(day);
        let next = day.tomorrow().unwrap_or(day);
        let forgotten = self.upkeep.row(&FORGET_COUNTS, &[&lease.token, &next]).await?;
        Columns(&forgotten).amount("events").map(Some)
    }

    async fn oversized_namespaces(&self, most: u64, limit: u32) -> PortResult<Vec<(NamespaceKey, u64)>> {
        let rows = self.upkeep.rows(&CROWDED, &[&signed(most), &i64::from(limit)]).await?;
        let oversized_namespaces = |row| {
            let row = Columns(row);
            Ok((NamespaceKey(row.get::<Uuid>("namespace_key")?.into_bytes()), row.amount("excess")?))
        };
        rows.iter().map(oversized_namespaces).collect()
    }

    async fn trim(&self, lease: TaskLease, namespace: NamespaceKey, limit: u32) -> PortResult<u64> {
        let key = Uuid::from_bytes(namespace.0);
        Columns(&self.upkeep.row(&TRIM, &[&lease.token, &key, &i64::from(limit)]).await?).amount("gone")
    }

    async fn prune_runs(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune_lineage(&PRUNE_RUNS, lease, day, limit).await
    }

    async fn prune_namespaces(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune_lineage(&PRUNE_NAMESPACES, lease, day, limit).await
    }

    async fn window(&self, most: u64) -> PortResult<WindowState> {
        let row = self.upkeep.row(&WINDOW, &[&signed(most)]).await?;
        let row = Columns(&row);
        Ok(WindowState {
            events: row.amount("events")?,
            excess: row.amount("excess")?,
            oldest_day: row.get("oldest_day")?,
        })
    }
}

#[async_trait]
impl LineageGraphUpkeep for PostgresStore {
    async fn prune_edges(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune_lineage(&PRUNE_EDGES, lease, day, limit).await
    }

    async fn prune_nodes(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.prune_lineage(&PRUNE_NODES, lease, day, limit).await
    }
}
