//! The port `Upkeep`: housekeeping in bounded steps.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    ports::{AuditPage, LeaseComparison, PortError, PortResult, SetAside, UnknownLeases, Upkeep},
};
use rusqlite::{Connection, named_params};

use super::{
    SqliteStore, client_keys,
    columns::{Sql, get, get_credit},
    error::{DEPENDENCY, JobFailure},
    installations::no_installation,
    ledger::nodes,
    payments, set_aside,
};

pub(super) mod audit;
pub(super) mod prune;

/// Served by `overlay_receipts_open`, longest expired first.
pub(super) const EXPIRE_RECEIPTS: &str = "
    UPDATE overlay_receipts SET expired_from = status, status = 'expired', epoch = epoch + 1, updated_at = :now
    WHERE receipt_id IN (
        SELECT receipt_id FROM overlay_receipts
        WHERE status IN ('pending', 'confirmed', 'settled') AND expires_at <= :now
        ORDER BY expires_at LIMIT :limit)";

/// Served by `overlay_receipts_expired`.
pub(super) const RESTORE_RECEIPTS: &str = "
    UPDATE overlay_receipts SET status = expired_from, expired_from = NULL, epoch = epoch + 1, updated_at = :now
    WHERE receipt_id IN (
        SELECT receipt_id FROM overlay_receipts
        WHERE expired_from IS NOT NULL AND expires_at > :now
        ORDER BY expires_at LIMIT :limit)";

/// Scans the few nodes, and finds the leases of each by `quota_leases_node`. CROSS JOIN keeps this order.
pub(super) const UNHELD: &str = "
    SELECT count(*) AS leases, coalesce(sum(l.bytes), 0) AS bytes, coalesce(sum(l.requests), 0) AS requests
    FROM ledger_nodes n
    CROSS JOIN quota_leases l ON l.node_id = n.node_id AND l.epoch = n.epoch
    WHERE (n.fenced = 1 OR n.alive_until <= :now) AND l.state = 'live'";

fn not_written(error: io::Error) -> PortError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => PortError::Full("the database"),
        _ => PortError::unavailable(DEPENDENCY, error),
    }
}

/// A table of one row.
pub(super) const PING: &str = "SELECT EXISTS (SELECT 1 FROM installation)";

/// Changes nothing in a table of one row, but commits like a change.
pub(super) const WRITE: &str = "UPDATE installation SET created_at = created_at";

fn unheld(conn: &Connection) -> rusqlite::Result<UnknownLeases> {
    conn.prepare_cached(UNHELD)?.query_row(named_params! { ":now": Sql(Timestamp::now()) }, |row| {
        Ok(UnknownLeases { leases: get(row, "leases")?, credit: get_credit(row, "bytes", "requests")? })
    })
}

#[async_trait]
impl Upkeep for SqliteStore {
    /// Runs on the writer, to prove that the write lock is available. After a failed write the ping writes too, because a
    /// database on a full disk answers but cannot serve. Otherwise the ping only reads, because it runs every second.
    async fn ping(&self) -> PortResult<()> {
        let in_doubt = self.workers.is_write_in_doubt();
        let file = Arc::clone(self.workers.file());
        let ping = move |conn: &Connection| -> Result<bool, JobFailure> {
            if in_doubt {
                file.prove_room().map_err(not_written)?;
                return Ok(conn.prepare_cached(WRITE)?.execute([])? > 0);
            }
            Ok(conn.prepare_cached(PING)?.query_row([], |row| row.get(0))?)
        };
        let says_whose_it_is = self.workers.write("ping", ping).await?;
        if in_doubt {
            self.workers.writes_work();
        }
        // A file with an empty database answers the ping, but cannot serve.
        if says_whose_it_is { Ok(()) } else { Err(no_installation()) }
    }

    async fn expire_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64> {
        let expire = move |conn: &Connection| {
            let range = named_params! { ":now": Sql(now), ":limit": limit };
            Ok(conn.prepare_cached(EXPIRE_RECEIPTS)?.execute(range)? as u64)
        };
        self.workers.write("expire_receipts", expire).await
    }

    async fn restore_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64> {
        let restore = move |conn: &Connection| {
            let range = named_params! { ":now": Sql(now), ":limit": limit };
            Ok(conn.prepare_cached(RESTORE_RECEIPTS)?.execute(range)? as u64)
        };
        self.workers.write("restore_receipts", restore).await
    }

    async fn prune_windows(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let prune = move |conn: &Connection| Ok(prune::windows(conn, before, limit, prune::ROWS_PER_STEP)?);
        self.workers.write("prune_windows", prune).await
    }

    /// SQLite has no partitions: rows go with their windows.
    async fn drop_usage(&self, _before: Timestamp) -> PortResult<u64> {
        Ok(0)
    }

    async fn forget_client_keys(&self, before: Timestamp) -> PortResult<u64> {
        self.workers.write("forget_client_keys", move |conn| Ok(client_keys::forget(conn, before)?)).await
    }

    async fn forget_prices(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.workers.write("forget_prices", move |conn| Ok(payments::forget_prices(conn, before, limit)?)).await
    }

    async fn prune_nodes(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.workers.write("prune_nodes", move |conn| Ok(prune::nodes(conn, before, limit)?)).await
    }

    /// SQLite has no partitions to make ahead.
    async fn prepare(&self, _now: Timestamp, _months: u32) -> PortResult<u64> {
        Ok(0)
    }

    async fn usage_set_aside(&self, after: Option<UsageId>, limit: u32) -> PortResult<Vec<SetAside>> {
        self.workers.read("usage_set_aside", move |conn| Ok(set_aside::page(conn, after, limit)?)).await
    }

    async fn unheld(&self) -> PortResult<UnknownLeases> {
        self.workers.read("unheld", |conn| Ok(unheld(conn)?)).await
    }

    async fn compared(&self) -> PortResult<Vec<LeaseComparison>> {
        self.workers.read("compared", |conn| Ok(nodes::compared(conn)?)).await
    }

    async fn audit(&self, after: Option<ReceiptId>, limit: u32) -> PortResult<AuditPage> {
        self.workers.read("audit", move |conn| Ok(audit::page(conn, after, limit)?)).await
    }
}
