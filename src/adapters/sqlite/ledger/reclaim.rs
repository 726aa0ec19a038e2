//! Reclaiming: the leases of dead instances are charged or released.

use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, UsageId},
    model::{Credit, LostLease, NodeEpoch, Outcome, UsageRow, WindowSet},
    ports::Reclaimed,
};
use rusqlite::{Connection, Row, named_params};

use super::super::{
    columns::{get, get_credit},
    error::JobFailure,
    leases::{self, LeaseKey},
    usage,
    windows::{self, WindowChange},
};

/// Scans the few nodes, and finds the leases of each by `quota_leases_node`. CROSS JOIN keeps this order.
pub(in super::super) const DEAD_LEASES: &str = "
    SELECT l.receipt_id, l.node_id, l.epoch, l.hour_start, l.bytes, l.requests, r.content_hash, n.spared
    FROM ledger_nodes n
    CROSS JOIN quota_leases l ON l.node_id = n.node_id AND l.epoch = n.epoch
    CROSS JOIN overlay_receipts r ON r.receipt_id = l.receipt_id
    WHERE n.fenced = 1 AND l.state = 'live'
    LIMIT :limit";

/// A live lease whose epoch is fenced.
struct DeadLease {
    key: LeaseKey,
    amount: Credit,
    content_hash: ContentHash,
    /// Whether the lease is released without a charge, because no crash explains its loss.
    spared: bool,
}

/// The time of a step, and how many leases it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReclaimStep {
    pub(super) now: Timestamp,
    pub(super) limit: u32,
}

/// Reclaims leases of fenced epochs.
pub(super) fn reclaim(
    conn: &Connection,
    mode: LostLease,
    ReclaimStep { now, limit }: ReclaimStep,
) -> Result<Reclaimed, JobFailure> {
    let mut dead = dead_leases(conn, i64::from(limit) + 1)?;
    let more = dead.len() > limit as usize;
    dead.truncate(limit as usize);
    let mut reclaimed = Reclaimed { more, ..Reclaimed::default() };
    for lease in &dead {
        match mode {
            LostLease::Charge if lease.spared => {
                leases::delete(conn, lease.key)?;
                reclaimed.spared_leases += 1;
                reclaimed.spared += lease.amount;
            }
            LostLease::Charge => charge(conn, lease, now)?,
            LostLease::Release => leases::delete(conn, lease.key)?,
        }
        let freed = WindowChange { reserved: lease.amount, ..WindowChange::default() };
        windows::take(conn, lease.key.receipt, &WindowSet::at(lease.key.hour), freed)?;
        reclaimed.leases += 1;
        reclaimed.credit += lease.amount;
    }
    Ok(reclaimed)
}

/// One lease more than the step may take, to know whether any are left.
fn dead_leases(conn: &Connection, limit: i64) -> rusqlite::Result<Vec<DeadLease>> {
    let from_row = |row: &Row<'_>| {
        let node = NodeEpoch { node: get(row, "node_id")?, epoch: row.get("epoch")? };
        Ok(DeadLease {
            key: LeaseKey { receipt: get(row, "receipt_id")?, node, hour: get(row, "hour_start")? },
            amount: get_credit(row, "bytes", "requests")?,
            content_hash: get(row, "content_hash")?,
            spared: row.get("spared")?,
        })
    };
    conn.prepare_cached(DEAD_LEASES)?.query_map(named_params! { ":limit": limit }, from_row)?.collect()
}

/// Counts a lease as used, by a usage row that later rows of the lost instance may shrink.
fn charge(conn: &Connection, lease: &DeadLease, now: Timestamp) -> rusqlite::Result<()> {
    let LeaseKey { receipt, node, hour } = lease.key;
    let row = UsageRow {
        usage_id: UsageId::next(),
        receipt_id: receipt,
        content_hash: lease.content_hash,
        session_id: None,
        client: None,
        started_at: hour,
        finished_at: now.max(hour),
        bytes_sent: lease.amount.bytes,
        requests: lease.amount.requests,
        outcome: Outcome::LostLease,
        lease_epoch: Some(node.epoch),
    };
    usage::insert(conn, &row, node.node)?;
    windows::add(conn, receipt, &WindowSet::at(hour), WindowChange { used: lease.amount, ..WindowChange::default() })?;
    leases::lose(conn, lease.key, row.usage_id)
}
