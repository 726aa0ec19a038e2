//! Housekeeping in the ledger, for the Janitor and the tools.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::{NodeId, ReceiptId, UsageId},
    model::{Credit, NodeEpoch, UsageRow, WindowKind},
};

/// A usage row that could not be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub row: UsageRow,
    pub node: NodeId,
    pub set_aside_at: Timestamp,
    /// Why the ledger did not take it.
    pub reason: String,
}

/// A window that does not equal the sum of its usage rows, or whose reserved credit does not equal its leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDifference {
    pub receipt_id: ReceiptId,
    pub window: WindowKind,
    pub window_start: Timestamp,
    pub recorded: Credit,
    pub recomputed: Credit,
    /// True for `reserved` against leases, false for `used` against usage rows.
    pub reserved: bool,
}

/// Live leases that no instance holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnknownLeases {
    pub leases: u64,
    pub credit: Credit,
}

/// The last comparison of a live node's leases in the ledger with those that the node knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseComparison {
    pub node_epoch: NodeEpoch,
    /// The credit that is leased to it without its knowledge, and when it compared. `None` when it has not compared: its version is an
    /// earlier one, or statements have been under way at each heartbeat since it started.
    pub unknown: Option<(Credit, Timestamp)>,
}

/// One step of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// Windows compared.
    pub windows: u64,
    pub differences: Vec<AuditDifference>,
    /// The receipt after which to continue; `None` at the end.
    pub next: Option<ReceiptId>,
}

/// Housekeeping in bounded steps.
#[async_trait]
pub trait Upkeep: Send + Sync + 'static {
    /// Succeeds when the database answers.
    async fn ping(&self) -> PortResult<()>;

    /// Marks up to `limit` open receipts past their time as expired, and records their earlier status; returns how many.
    async fn expire_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64>;

    /// Gives up to `limit` receipts that [`expire_receipts`](Self::expire_receipts) marked, and that have not expired,
    /// their earlier status back; returns how many. A clock that was ahead had marked them.
    async fn restore_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` windows that ended before `before`; returns how many. Windows with reserved credit stay. The usage rows
    /// that they sum up go with them, or with their month ([`drop_usage`](Self::drop_usage)).
    async fn prune_windows(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Drops the usage rows of one month that ended before `before` and has no window left, where the database has a partition for each
    /// month; returns how many months, 0 or 1. While others use the rows it drops nothing: a later call does.
    async fn drop_usage(&self, before: Timestamp) -> PortResult<u64>;

    /// Deletes the keys that marked clients on days that ended before `before` and are over by the database's clock too; returns how many.
    async fn forget_client_keys(&self, before: Timestamp) -> PortResult<u64>;

    /// Forgets up to `limit` prices that were raised before `before`; returns how many.
    async fn forget_prices(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Forgets up to `limit` fenced epochs that hold no lease and were last seen before `before`; returns how many.
    async fn prune_nodes(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Makes the partitions of the next `months` months, where the database has partitions; returns how many were made.
    async fn prepare(&self, now: Timestamp, months: u32) -> PortResult<u64>;

    /// Usage rows that were set aside, in the order of their ids, after `after`.
    async fn usage_set_aside(&self, after: Option<UsageId>, limit: u32) -> PortResult<Vec<SetAside>>;

    /// The sum of the live leases of epochs that are not alive: a Janitor is about to reclaim them.
    async fn unheld(&self) -> PortResult<UnknownLeases>;

    /// The last comparison of each live node's leases.
    async fn compared(&self) -> PortResult<Vec<LeaseComparison>>;

    /// Compares the windows of up to `limit` receipts after `after` with their usage rows and leases.
    async fn audit(&self, after: Option<ReceiptId>, limit: u32) -> PortResult<AuditPage>;
}
