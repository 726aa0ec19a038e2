//! Settlement: a batch of usage is stored as rows, and moves from leases to windows, in one transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;
use penstock_actors::{
    ids::ReceiptId,
    model::{Credit, NodeEpoch, WindowKind, WindowSet},
    ports::{Release, SettleBatch, Settled},
};
use rusqlite::Connection;

use super::{
    super::{
        error::JobFailure,
        leases::{self, Lease, LeaseKey},
        lineage::outbox,
        usage,
        windows::{self, WindowChange},
    },
    nodes,
};

/// The sum of a batch's rows for one receipt in one hour.
#[derive(Debug, Default)]
struct Spent {
    total: Credit,
    /// The part that was spent from leases, by their epoch.
    leased: BTreeMap<i64, Credit>,
}

pub(super) fn settle(conn: &Connection, batch: &SettleBatch) -> Result<Settled, JobFailure> {
    if !nodes::advance_watermark(conn, batch.node, batch.sequence)? {
        return Ok(Settled::default());
    }
    let mut inserted = Vec::with_capacity(batch.rows.len());
    let mut spent = BTreeMap::<(ReceiptId, Timestamp), Spent>::new();
    for row in &batch.rows {
        if !usage::insert(conn, row, batch.node.node)? {
            continue;
        }
        inserted.push(row);
        let hour = WindowKind::Hour.window(row.started_at).start;
        let spent = spent.entry((row.receipt_id, hour)).or_default();
        spent.total += row.credit();
        if let Some(epoch) = row.lease_epoch {
            *spent.leased.entry(epoch).or_default() += row.credit();
        }
    }
    for ((receipt, hour), spent) in spent {
        // Before any lease is read: a receipt that does not exist fails here.
        windows::add(
            conn,
            receipt,
            &WindowSet::at(hour),
            WindowChange { used: spent.total, ..WindowChange::default() },
        )?;
        for (epoch, credit) in spent.leased {
            let node = NodeEpoch { node: batch.node.node, epoch };
            spend(conn, LeaseKey { receipt, node, hour }, credit)?;
        }
    }
    for release in &batch.releases {
        give_back(conn, batch.node, release)?;
    }
    outbox::add_streams_to_outbox(conn, inserted.iter().copied())?;
    Ok(Settled { inserted: inserted.len() as u64 })
}

/// Takes spent credit off its lease. An excess over the lease was never reserved, so only the windows count it.
fn spend(conn: &Connection, key: LeaseKey, credit: Credit) -> rusqlite::Result<()> {
    let Some(lease) = leases::load(conn, key)? else { return Ok(()) };
    let set = WindowSet::at(key.hour);
    let Some(charged_as) = lease.lost_as else {
        return take_live(conn, key, &lease, credit);
    };
    // The whole lease was charged when it was lost. The part that these rows explain must not be charged twice.
    let explained = usage::shrink(conn, charged_as, credit.min(lease.amount))?;
    leases::set(conn, key, lease.amount - explained)?;
    windows::take(conn, key.receipt, &set, WindowChange { used: explained, ..WindowChange::default() })
}

/// Returns credit from a live lease. A lost lease has been charged or released already.
fn give_back(conn: &Connection, node: NodeEpoch, release: &Release) -> rusqlite::Result<()> {
    let node = NodeEpoch { node: node.node, epoch: release.epoch };
    let key = LeaseKey { receipt: release.receipt_id, node, hour: WindowKind::Hour.window(release.window).start };
    match leases::load(conn, key)? {
        Some(lease) if lease.lost_as.is_none() => take_live(conn, key, &lease, release.credit),
        _ => Ok(()),
    }
}

/// Takes up to `credit` off a live lease and off the reservations in its windows. An empty lease is deleted.
fn take_live(conn: &Connection, key: LeaseKey, lease: &Lease, credit: Credit) -> rusqlite::Result<()> {
    let taken = lease.amount.min(credit);
    let left = lease.amount - taken;
    if left.is_zero() {
        leases::delete(conn, key)?;
    } else {
        leases::set(conn, key, left)?;
    }
    windows::take(
        conn,
        key.receipt,
        &WindowSet::at(key.hour),
        WindowChange { reserved: taken, ..WindowChange::default() },
    )
}
