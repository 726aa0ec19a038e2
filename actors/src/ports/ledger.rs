//! The ledger: receipts, policies, windows, leases and usage; everything that is money.
//!
//! Three traits by who calls them: [`Receipts`] from handlers, [`Ledger`] from the quota and usage actors, [`Upkeep`] from
//! the Janitor and the tools. One adapter implements all three.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, PortResult};
use crate::{
    ids::{ContentHash, NodeId, ReceiptId, UsageId, VersionId},
    model::{
        ContentMeta, Credit, LeaseSizing, LostLease, NodeEpoch, QuotaPolicy, Receipt, ReceiptStatus, UsageRow,
        WindowKind, WindowUsage,
    },
};

/// What is needed to make a receipt. The content is the asset's, the total its current price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReceipt {
    pub receipt_id: ReceiptId,
    pub version_id: VersionId,
    pub quota_tier: String,
    pub status: ReceiptStatus,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
}

/// What came of a change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusChange {
    /// The receipt as it is now; its epoch has grown, unless it had this status already.
    Changed(Receipt),
    /// Its status does not allow the change ([`ReceiptStatus::may_become`]).
    Refused(ReceiptStatus),
    NotFound,
}

/// Receipts and policies as handlers see them.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// Makes a receipt.
    ///
    /// # Errors
    /// [`PortError::NotFound`](super::PortError::NotFound) names what does not exist, `"asset"` or `"quota tier"`.
    async fn create_receipt(&self, new: &NewReceipt) -> PortResult<Receipt>;

    async fn receipt(&self, id: ReceiptId) -> PortResult<Option<Receipt>>;

    /// Changes the status and increments the epoch, in one statement that repeats the rule of
    /// [`ReceiptStatus::may_become`]. Setting the status it already has changes nothing.
    async fn set_receipt_status(&self, id: ReceiptId, to: ReceiptStatus, now: Timestamp) -> PortResult<StatusChange>;

    /// Makes or replaces a policy; true when it is new.
    async fn put_policy(&self, policy: &QuotaPolicy, now: Timestamp) -> PortResult<bool>;

    /// All policies by name.
    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>>;

    /// A receipt's policy and its windows at `now`, straight from the ledger.
    async fn quota(&self, id: ReceiptId, now: Timestamp) -> PortResult<Option<QuotaView>>;

    /// Usage rows of a receipt in the order of their ids, after `after`.
    async fn usage(&self, id: ReceiptId, after: Option<UsageId>, limit: u32) -> PortResult<Page<UsageRow>>;
}

/// A receipt's windows with the policy that limits them.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaView {
    pub policy: QuotaPolicy,
    /// Hour, day, month.
    pub windows: [WindowUsage; 3],
}

/// A receipt that the quota cache misses, or whose lease is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub receipt_id: ReceiptId,
    /// Nothing is leased unless the receipt is for this content.
    pub content_hash: ContentHash,
    /// At least this, or nothing. [`Credit::ZERO`] takes whatever fits, be it nothing.
    pub need: Credit,
    /// As much as this where it fits ([`LeaseSizing`]). [`Credit::ZERO`] only loads.
    pub want: Credit,
}

/// A [`Want`] as the ledger is asked for it: under a name, so that it can be asked again until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefillRequest {
    pub want: Want,
    /// Names it among the requests of the node's epoch for this receipt. A later one has a larger number; the first is 1.
    pub id: i64,
    /// It may have been asked before: a statement that carried it was not answered, and may still be under way.
    pub again: bool,
}

impl RefillRequest {
    pub const fn first(id: i64, want: Want) -> Self {
        Self { want, id, again: false }
    }

    /// The same request once more.
    #[must_use]
    pub const fn repeated(self) -> Self {
        Self { again: true, ..self }
    }
}

/// A receipt with all that a stream's admission depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptView {
    pub receipt: Receipt,
    pub policy: QuotaPolicy,
    /// `None` when the content is not stored.
    pub content: Option<ContentMeta>,
    /// For `Content-Disposition`.
    pub asset_name: String,
}

/// The answer to one [`Want`].
#[derive(Debug, Clone, PartialEq)]
pub struct Refill {
    /// `None`: no such receipt.
    pub view: Option<ReceiptView>,
    /// Hour, day and month at `now`, after the grant.
    pub windows: [WindowUsage; 3],
    /// What this request added to the node's lease, now or when it was asked before. Zero where it does not fit, or where the
    /// receipt may not stream or is for other content, and in a dimension that no window limits.
    pub granted: Credit,
}

impl Refill {
    /// What did not fit, if that is why nothing was granted. A caller that did not know the size lacks no more than that.
    pub fn lacking(&self, want: &Want) -> Option<Credit> {
        let content = self.view.as_ref()?.content.as_ref()?;
        let was_asked = content.content_hash == want.content_hash && !want.need.is_zero();
        let need = Credit::new(want.need.bytes.min(content.size_bytes), want.need.requests);
        (was_asked && self.granted.is_zero()).then_some(need)
    }
}

/// Credit that goes back from a lease to its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    pub receipt_id: ReceiptId,
    /// Any moment in the hour that the lease is of.
    pub window: Timestamp,
    pub epoch: i64,
    pub credit: Credit,
}

/// One batch of usage: what one transaction applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleBatch {
    pub node: NodeEpoch,
    /// Grows by one with each batch of a node's epoch; the ledger keeps the highest as the node's watermark.
    pub sequence: i64,
    pub rows: Vec<UsageRow>,
    pub releases: Vec<Release>,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Rows that were not there yet. Zero for a batch that had been applied before.
    pub inserted: u64,
}

/// What one step of reclaiming, or of closing an epoch, found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    pub leases: u64,
    /// The credit that was charged or released.
    pub credit: Credit,
    /// Leases among them that were released whatever the mode says, since no crash explains their loss.
    pub spared_leases: u64,
    /// The credit of the spared leases.
    pub spared: Credit,
    /// Whether leases may be left for a further step.
    pub more: bool,
}

/// A usage row that could not be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub row: UsageRow,
    pub node: NodeId,
    pub set_aside_at: Timestamp,
    /// Why the ledger did not take it.
    pub reason: String,
}

/// The latest epoch of a node, as the ledger knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub epoch: i64,
    /// Heartbeats of the epoch that the ledger has taken.
    pub beats: u64,
    /// Whether it is neither fenced nor past its time.
    pub alive: bool,
}

impl Standing {
    /// Whether the ledger knows less than it acknowledged: so many heartbeats of an epoch.
    pub fn is_behind(known: Option<Self>, epoch: i64, beats: u64) -> bool {
        known.is_none_or(|known| known.epoch < epoch || known.epoch == epoch && known.beats < beats)
    }
}

/// Leases and settlement: the calls behind the hot path.
///
/// # Invariants
/// - In every window, `used + reserved` is at most the limit that was in force when the last lease was taken.
/// - `reserved` is the sum of the live leases of the window; `used` is the sum of its usage rows.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Loads receipts and takes leases for them, in one round trip for all. The answers are in the order of `requests`.
    /// A receipt stands at most once in `requests`, and a node has one request for a receipt under way.
    ///
    /// A request grants once, however often it is asked and in whatever order its statements arrive: one that is asked
    /// [`again`](RefillRequest::again) is told what it was granted, and when its answer is there no statement of it, nor of an
    /// earlier one, grants anything any more. It is asked again with a `now` of the same hour.
    ///
    /// # Errors
    /// `Fenced` when the node's epoch is not alive in the ledger: no statement of this epoch grants anything any more.
    /// After `Unavailable` it may have been granted: ask again.
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>>;

    /// Applies a batch in one transaction: inserts the rows that are not there yet, adds to the windows only what was
    /// really inserted, takes it off the leases it was spent from, gives releases back, advances the watermark. A batch
    /// at or below the watermark changes nothing, so a repeat after a lost answer counts nothing twice. Fenced epochs
    /// settle too: what a reclaimed lease was charged for shrinks by what the late rows explain.
    ///
    /// # Errors
    /// `Rejected` when a row can never be inserted (its receipt does not exist); nothing of the batch is then applied.
    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled>;

    /// Keeps a row that can never be settled for a person to decide about. It is in no window. A repeat keeps it once.
    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()>;

    /// Makes the node's epoch known, or keeps it alive for another `ttl` by the ledger's own clock.
    ///
    /// # Errors
    /// `Fenced` when this epoch was reclaimed, or a later epoch of this node is known.
    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()>;

    /// The latest epoch of a node; `None` when the ledger knows none.
    async fn standing(&self, node: NodeId) -> PortResult<Option<Standing>>;

    /// Ends the time of an epoch whose process is known to be gone, so that its leases need not be waited for.
    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()>;

    /// Nodes alive now. An epoch that a later one of its node has replaced is no node more.
    async fn nodes_alive(&self) -> PortResult<u64>;

    /// The live leases of a node's epoch, added up.
    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit>;

    /// Takes back up to `limit` leases of epochs whose heartbeat ran out. An epoch is fenced in the same transaction that
    /// takes the first of its leases.
    ///
    /// `by` is the epoch of the caller. A caller that is not alive itself takes nothing: a caller that slept, or a clock that
    /// jumped, tells nothing about the others. A caller that was late takes nothing either until it has been in time twice,
    /// so that the others have had the time to say that they live.
    ///
    /// An epoch that a later one of its node replaced while it was alive was not lost in a crash: two processes have one
    /// identity. Its leases are released whatever `mode` says.
    async fn reclaim(&self, by: NodeEpoch, mode: LostLease, now: Timestamp, limit: u32) -> PortResult<Reclaimed>;

    /// Ends the epoch of a node that stops: fences it, so that no statement that is still under way takes a lease, and
    /// releases up to `limit` of the leases that are left. Nothing is charged, so all usage must have been settled before.
    /// Repeating it is harmless.
    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Reclaimed>;
}

/// A window that does not equal the sum of its usage rows, or reserves that do not equal its leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDifference {
    pub receipt_id: ReceiptId,
    pub window: WindowKind,
    pub window_start: Timestamp,
    pub recorded: Credit,
    pub recomputed: Credit,
    /// True when it is about `reserved` against leases, false about `used` against usage rows.
    pub reserved: bool,
}

/// Live leases that no instance holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unheld {
    pub leases: u64,
    pub credit: Credit,
}

/// One step of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// Windows compared.
    pub windows: u64,
    pub differences: Vec<AuditDifference>,
    /// The receipt to go on after; `None` at the end.
    pub next: Option<ReceiptId>,
}

/// Housekeeping in bounded steps.
#[async_trait]
pub trait Upkeep: Send + Sync + 'static {
    /// Answers when the database does.
    async fn ping(&self) -> PortResult<()>;

    /// Marks up to `limit` open receipts past their time as expired, and keeps what they were; how many.
    async fn expire_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64>;

    /// Makes up to `limit` receipts that [`expire_receipts`](Self::expire_receipts) marked, and whose time is not over, what they were
    /// before; how many. They were marked by a clock that was ahead.
    async fn restore_receipts(&self, now: Timestamp, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` windows that ended before `before`, with the usage rows that they sum up; how many windows.
    /// Windows with reserved credit stay.
    async fn prune_windows(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Forgets up to `limit` fenced epochs that hold no lease and were last seen before `before`; how many.
    async fn prune_nodes(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Makes what the next `months` months will need (partitions, where the database has them); how many were made.
    async fn prepare(&self, now: Timestamp, months: u32) -> PortResult<u64>;

    /// Usage rows that were set aside, in the order of their ids, after `after`.
    async fn usage_set_aside(&self, after: Option<UsageId>, limit: u32) -> PortResult<Vec<SetAside>>;

    /// Adds up the live leases of epochs that are not alive: a Janitor is about to take them back.
    async fn unheld(&self) -> PortResult<Unheld>;

    /// Compares the windows of up to `limit` receipts after `after` with their usage rows and leases.
    async fn audit(&self, after: Option<ReceiptId>, limit: u32) -> PortResult<AuditPage>;
}
