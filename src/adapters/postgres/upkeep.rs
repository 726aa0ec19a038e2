//! Housekeeping in bounded steps. Locked rows are skipped: the next step finds them.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{NodeId, ReceiptId, UsageId},
    model::{NodeEpoch, WindowKind},
    ports::{AuditDifference, AuditPage, LeaseComparison, PortResult, SetAside, UnknownLeases, Upkeep},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore, client_keys, columns::Columns, db::Statement, installations::no_installation, payments, set_aside,
};

/// By `overlay_receipts_open`.
const EXPIRE: Statement = Statement {
    name: "expire_receipts",
    sql: "
        UPDATE overlay_receipts r SET expired_from = r.status, status = 'expired', epoch = r.epoch + 1, updated_at = $1
        FROM (
            SELECT receipt_id
            FROM overlay_receipts
            WHERE status IN ('pending', 'confirmed', 'settled') AND expires_at <= $1
            ORDER BY expires_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS due
        WHERE r.receipt_id = due.receipt_id",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// By `overlay_receipts_expired`.
const RESTORE: Statement = Statement {
    name: "restore_receipts",
    sql: "
        UPDATE overlay_receipts r
        SET status = r.expired_from, expired_from = NULL, epoch = r.epoch + 1, updated_at = $1
        FROM (
            SELECT receipt_id
            FROM overlay_receipts
            WHERE expired_from IS NOT NULL AND expires_at > $1
            ORDER BY expires_at
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS early
        WHERE r.receipt_id = early.receipt_id",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// Windows by `quota_usage_windows_end`, leases by their primary key. The usage rows stay until the whole month has no
/// window, and is dropped. Rows without a window contradict nothing. A lost lease goes at once: late rows count whole in a
/// new window.
const PRUNE_WINDOWS: Statement = Statement {
    name: "prune_windows",
    sql: "
        WITH due AS (
            SELECT receipt_id, window_type, window_start, window_end
            FROM quota_usage_windows
            WHERE window_end < $1 AND bytes_reserved = 0 AND requests_reserved = 0
            ORDER BY window_end
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ),
        charged AS (
            DELETE FROM quota_leases l USING due
            WHERE due.window_type = 'month' AND l.receipt_id = due.receipt_id AND l.state = 'lost'
              AND l.hour_start >= due.window_start AND l.hour_start < due.window_end
        )
        DELETE FROM quota_usage_windows w USING due
        WHERE w.receipt_id = due.receipt_id AND w.window_type = due.window_type
          AND w.window_start = due.window_start AND w.window_end = due.window_end",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// The system catalogue, and windows by `quota_usage_windows_end`.
const DROP_USAGE: Statement =
    Statement { name: "drop_usage", sql: "SELECT penstock_drop_usage($1) AS partition", types: &[Type::TIMESTAMPTZ] };

/// Nodes by `ledger_nodes_fenced`, leases by `quota_leases_node`.
const PRUNE_NODES: Statement = Statement {
    name: "prune_nodes",
    sql: "
        WITH due AS (
            SELECT n.node_id, n.epoch
            FROM ledger_nodes n
            WHERE n.fenced AND n.alive_until < $1 AND NOT EXISTS (
                SELECT FROM quota_leases l WHERE l.node_id = n.node_id AND l.epoch = n.epoch AND l.state = 'live')
            ORDER BY n.alive_until
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ),
        charged AS (
            DELETE FROM quota_leases l USING due
            WHERE l.node_id = due.node_id AND l.epoch = due.epoch AND l.state = 'lost'
        )
        DELETE FROM ledger_nodes n USING due WHERE n.node_id = due.node_id AND n.epoch = due.epoch",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// The system catalogue, and the rows of months without a partition.
const PREPARE: Statement = Statement {
    name: "prepare",
    sql: "SELECT partitions_made, rows_moved FROM penstock_prepare_usage($1, $2)",
    types: &[Type::TIMESTAMPTZ, Type::INT4],
};

/// Windows by `quota_usage_windows_time_range`, usage by `streaming_usage_receipt`, leases by their primary key. One
/// snapshot covers all reads, so that a batch in flight is no difference.
const AUDIT: Statement = Statement {
    name: "audit",
    sql: "
        WITH page AS MATERIALIZED (
            SELECT DISTINCT receipt_id FROM quota_usage_windows WHERE receipt_id > $1 ORDER BY receipt_id LIMIT $2
        ),
        recorded AS MATERIALIZED (
            SELECT w.* FROM page JOIN quota_usage_windows w ON w.receipt_id = page.receipt_id
        ),
        hours AS (
            SELECT u.receipt_id, date_trunc('hour', u.started_at, 'UTC') AS hour_start, u.bytes_sent AS bytes_used,
                   u.requests AS requests_used, 0 AS bytes_reserved, 0 AS requests_reserved
            FROM page JOIN streaming_usage u ON u.receipt_id = page.receipt_id
            UNION ALL
            SELECT l.receipt_id, l.hour_start, 0, 0, l.bytes, l.requests
            FROM page JOIN quota_leases l ON l.receipt_id = page.receipt_id
            WHERE l.state = 'live'
        ),
        recomputed AS (
            SELECT receipt_id, window_type, date_trunc(window_type, hour_start, 'UTC') AS window_start,
                   sum(bytes_used)::bigint AS bytes_used, sum(requests_used)::bigint AS requests_used,
                   sum(bytes_reserved)::bigint AS bytes_reserved, sum(requests_reserved)::bigint AS requests_reserved
            FROM hours CROSS JOIN (VALUES ('hour'), ('day'), ('month')) AS kind (window_type)
            GROUP BY 1, 2, 3
        ),
        compared AS (
            SELECT w.receipt_id, w.window_type, w.window_start, w.bytes_used, w.requests_used, w.bytes_reserved,
                   w.requests_reserved, coalesce(r.bytes_used, 0) AS true_bytes_used,
                   coalesce(r.requests_used, 0) AS true_requests_used,
                   coalesce(r.bytes_reserved, 0) AS true_bytes_reserved,
                   coalesce(r.requests_reserved, 0) AS true_requests_reserved
            FROM recorded w
            LEFT JOIN recomputed r ON r.receipt_id = w.receipt_id AND r.window_type = w.window_type
                AND r.window_start = w.window_start
        )
        SELECT (SELECT count(*) FROM recorded) AS windows, (SELECT count(*) FROM page) AS receipts,
               (SELECT receipt_id FROM page ORDER BY receipt_id DESC LIMIT 1) AS last_receipt, d.*
        FROM (SELECT) AS always
        LEFT JOIN (
            SELECT * FROM compared
            WHERE (bytes_used, requests_used, bytes_reserved, requests_reserved)
                <> (true_bytes_used, true_requests_used, true_bytes_reserved, true_requests_reserved)
            ORDER BY receipt_id, window_start, window_type
        ) AS d ON true",
    types: &[Type::UUID, Type::INT8],
};

/// All leases, and their nodes by the primary key.
const UNHELD: Statement = Statement {
    name: "unheld",
    sql: "
        SELECT count(*) AS leases, coalesce(sum(l.bytes), 0)::bigint AS bytes,
               coalesce(sum(l.requests), 0)::bigint AS requests
        FROM quota_leases l JOIN ledger_nodes n ON n.node_id = l.node_id AND n.epoch = l.epoch
        WHERE l.state = 'live' AND (n.fenced OR n.alive_until <= clock_timestamp())",
    types: &[],
};

/// By `ledger_nodes_alive`.
const COMPARED: Statement = Statement {
    name: "compared",
    sql: "
        SELECT node_id, epoch, compared_at, coalesce(unknown_bytes, 0) AS bytes, coalesce(unknown_requests, 0) AS requests
        FROM ledger_nodes WHERE NOT fenced AND alive_until > clock_timestamp() ORDER BY node_id, epoch",
    types: &[],
};

#[async_trait]
impl Upkeep for PostgresStore {
    async fn ping(&self) -> PortResult<()> {
        // In the ledger's lane: if requests wait for connections, the database is busy and not silent.
        // A server with an empty database answers the ping, but cannot serve.
        if self.ledger.ping().await? { Ok(()) } else { Err(no_installation()) }
    }

    async fn expire_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&EXPIRE, &[&now, &i64::from(limit)]).await
    }

    async fn restore_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&RESTORE, &[&now, &i64::from(limit)]).await
    }

    async fn prune_windows(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&PRUNE_WINDOWS, &[&before, &i64::from(limit)]).await
    }

    async fn drop_usage(&self, before: Timestamp) -> PortResult<u64> {
        let row = self.upkeep.row(&DROP_USAGE, &[&before]).await?;
        let Some(partition) = Columns(&row).get::<Option<&str>>("partition")? else { return Ok(0) };
        tracing::info!(partition, "the usage of a month is older than it is kept; its partition was dropped");
        Ok(1)
    }

    async fn forget_client_keys(&self, before: Timestamp) -> PortResult<u64> {
        client_keys::forget(self, before).await
    }

    async fn forget_prices(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        payments::forget_prices(self, before, limit).await
    }

    async fn prune_nodes(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&PRUNE_NODES, &[&before, &i64::from(limit)]).await
    }

    async fn prepare(&self, now: Timestamp, months: u32) -> PortResult<u64> {
        let months = i32::try_from(months).unwrap_or(i32::MAX);
        let row = self.upkeep.row(&PREPARE, &[&now, &months]).await?;
        let moved = Columns(&row).amount("rows_moved")?;
        if moved > 0 {
            tracing::warn!(
                rows = moved,
                "usage rows came for a month that had no partition; its partition was made and they were moved there"
            );
        }
        Columns(&row).amount("partitions_made")
    }

    async fn usage_set_aside(&self, after: Option<UsageId>, limit: u32) -> PortResult<Vec<SetAside>> {
        set_aside::page(self, after, limit).await
    }

    async fn unheld(&self) -> PortResult<UnknownLeases> {
        let row = self.upkeep.row(&UNHELD, &[]).await?;
        let row = Columns(&row);
        Ok(UnknownLeases { leases: row.amount("leases")?, credit: row.credit("bytes", "requests")? })
    }

    async fn compared(&self) -> PortResult<Vec<LeaseComparison>> {
        let compared = |row| {
            let row = Columns(row);
            let (credit, at) = (row.credit("bytes", "requests")?, row.get::<Option<Timestamp>>("compared_at")?);
            let node_epoch = NodeEpoch { node: NodeId::from_uuid(row.get("node_id")?), epoch: row.get("epoch")? };
            Ok(LeaseComparison { node_epoch, unknown: at.map(|at| (credit, at)) })
        };
        self.upkeep.rows(&COMPARED, &[]).await?.iter().map(compared).collect()
    }

    async fn audit(&self, after: Option<ReceiptId>, limit: u32) -> PortResult<AuditPage> {
        let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
        let rows = self.upkeep.rows(&AUDIT, &[&after, &i64::from(limit)]).await?;
        let mut page = AuditPage::default();
        for row in &rows {
            let row = Columns(row);
            page.windows = row.amount("windows")?;
            let is_last = row.amount("receipts")? < u64::from(limit);
            page.next = if is_last { None } else { row.get::<Option<_>>("last_receipt")?.map(ReceiptId::from_uuid) };
            if row.get::<Option<Uuid>>("receipt_id")?.is_some() {
                page.differences.extend(differences(&row)?);
            }
        }
        Ok(page)
    }
}

/// The differences of one window: in usage, in reservations, or both.
fn differences(row: &Columns<'_>) -> PortResult<impl Iterator<Item = AuditDifference> + use<>> {
    let kind = |word: &str| WindowKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    let used = AuditDifference {
        receipt_id: ReceiptId::from_uuid(row.get("receipt_id")?),
        window: row.word("window_type", kind)?,
        window_start: row.get("window_start")?,
        recorded: row.credit("bytes_used", "requests_used")?,
        recomputed: row.credit("true_bytes_used", "true_requests_used")?,
        reserved: false,
    };
    let reserved = AuditDifference {
        recorded: row.credit("bytes_reserved", "requests_reserved")?,
        recomputed: row.credit("true_bytes_reserved", "true_requests_reserved")?,
        reserved: true,
        ..used
    };
    Ok([used, reserved].into_iter().filter(|difference| difference.recorded != difference.recomputed))
}
