//! The rows of `quota_leases`.

use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::{Credit, NodeEpoch},
};
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::columns::{Sql, get_credit, get_opt};

/// Served by the primary key.
pub(super) const LEASE: &str = "
    SELECT bytes, requests, lost_usage_id FROM quota_leases
    WHERE receipt_id = :receipt AND node_id = :node AND epoch = :epoch AND hour_start = :hour";

/// Served by the primary key.
pub(super) const ADD_TO_LEASE: &str = "
    INSERT INTO quota_leases
        (receipt_id, node_id, epoch, hour_start, bytes, requests, state, refill_id, refill_bytes, refill_requests)
    VALUES (:receipt, :node, :epoch, :hour, :bytes, :requests, 'live', :refill, :bytes, :requests)
    ON CONFLICT (receipt_id, node_id, epoch, hour_start) DO UPDATE SET
        bytes = bytes + excluded.bytes, requests = requests + excluded.requests,
        refill_id = excluded.refill_id, refill_bytes = excluded.refill_bytes,
        refill_requests = excluded.refill_requests";

/// Served by the primary key.
pub(super) const LAST_REFILL: &str = "
    SELECT refill_id, refill_bytes, refill_requests FROM quota_leases
    WHERE receipt_id = :receipt AND node_id = :node AND epoch = :epoch AND hour_start = :hour";

/// Served by the primary key.
pub(super) const SET_LEASE: &str = "
    UPDATE quota_leases SET bytes = :bytes, requests = :requests
    WHERE receipt_id = :receipt AND node_id = :node AND epoch = :epoch AND hour_start = :hour";

/// Served by the primary key.
pub(super) const LOSE_LEASE: &str = "
    UPDATE quota_leases SET state = 'lost', lost_usage_id = :usage
    WHERE receipt_id = :receipt AND node_id = :node AND epoch = :epoch AND hour_start = :hour";

/// Served by the primary key.
pub(super) const DELETE_LEASE: &str = "
    DELETE FROM quota_leases
    WHERE receipt_id = :receipt AND node_id = :node AND epoch = :epoch AND hour_start = :hour";

/// Served by `quota_leases_node`.
pub(super) const LEASED: &str = "
    SELECT coalesce(sum(bytes), 0) AS bytes, coalesce(sum(requests), 0) AS requests
    FROM quota_leases WHERE node_id = :node AND epoch = :epoch AND state = 'live'";

/// The key of a lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseKey {
    pub(super) receipt: ReceiptId,
    pub(super) node: NodeEpoch,
    pub(super) hour: Timestamp,
}

/// A lease in its present state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) amount: Credit,
    /// The usage row of a lost lease's charge; `None` while the lease is live.
    pub(super) lost_as: Option<UsageId>,
}

pub(super) fn load(conn: &Connection, key: LeaseKey) -> rusqlite::Result<Option<Lease>> {
    conn.prepare_cached(LEASE)?
        .query_row(
            named_params! {
                ":receipt": Sql(key.receipt), ":node": Sql(key.node.node), ":epoch": key.node.epoch,
                ":hour": Sql(key.hour),
            },
            |row| Ok(Lease { amount: get_credit(row, "bytes", "requests")?, lost_as: get_opt(row, "lost_usage_id")? }),
        )
        .optional()
}

/// Adds the grant of the refill with this id.
pub(super) fn add(conn: &Connection, key: LeaseKey, refill: i64, credit: Credit) -> rusqlite::Result<()> {
    conn.prepare_cached(ADD_TO_LEASE)?.execute(named_params! {
        ":receipt": Sql(key.receipt), ":node": Sql(key.node.node), ":epoch": key.node.epoch, ":hour": Sql(key.hour),
        ":refill": refill, ":bytes": Sql(credit.bytes), ":requests": Sql(credit.requests),
    })?;
    Ok(())
}

/// The last refill that added to a lease, and the amount that it added.
pub(super) fn last_refill(conn: &Connection, key: LeaseKey) -> rusqlite::Result<Option<(i64, Credit)>> {
    conn.prepare_cached(LAST_REFILL)?
        .query_row(
            named_params! {
                ":receipt": Sql(key.receipt), ":node": Sql(key.node.node), ":epoch": key.node.epoch,
                ":hour": Sql(key.hour),
            },
            |row| Ok((row.get("refill_id")?, get_credit(row, "refill_bytes", "refill_requests")?)),
        )
        .optional()
}

pub(super) fn set(conn: &Connection, key: LeaseKey, amount: Credit) -> rusqlite::Result<()> {
    conn.prepare_cached(SET_LEASE)?.execute(named_params! {
        ":receipt": Sql(key.receipt), ":node": Sql(key.node.node), ":epoch": key.node.epoch, ":hour": Sql(key.hour),
        ":bytes": Sql(amount.bytes), ":requests": Sql(amount.requests),
    })?;
    Ok(())
}

/// The sum of the live leases of an epoch.
pub(super) fn held(conn: &Connection, node: NodeEpoch) -> rusqlite::Result<Credit> {
    let key = named_params! { ":node": Sql(node.node), ":epoch": node.epoch };
    conn.prepare_cached(LEASED)?.query_row(key, |row| get_credit(row, "bytes", "requests"))
}

/// Marks a lease as lost, charged as the usage row `charged_as`.
pub(super) fn lose(conn: &Connection, key: LeaseKey, charged_as: UsageId) -> rusqlite::Result<()> {
    conn.prepare_cached(LOSE_LEASE)?.execute(named_params! {
        ":receipt": Sql(key.receipt), ":node": Sql(key.node.node), ":epoch": key.node.epoch, ":hour": Sql(key.hour),
        ":usage": Sql(charged_as),
    })?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, key: LeaseKey) -> rusqlite::Result<()> {
    conn.prepare_cached(DELETE_LEASE)?.execute(named_params! {
        ":receipt": Sql(key.receipt), ":node": Sql(key.node.node), ":epoch": key.node.epoch, ":hour": Sql(key.hour),
    })?;
    Ok(())
}
