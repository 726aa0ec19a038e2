//! The ledger: windows, leases and usage.
//!
//! What concerns money has three traits, one for each kind of caller: [`Receipts`](super::Receipts) for handlers, [`Ledger`] for
//! the quota and usage actors, [`Upkeep`](super::Upkeep) for the Janitor and the tools. One adapter implements all three.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::{ContentHash, NodeId, ReceiptId},
    model::{ContentMeta, Credit, LeaseSizing, LostLease, NodeEpoch, QuotaPolicy, Receipt, UsageRow, WindowUsage},
};

/// A receipt that the quota cache lacks, or whose lease is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub receipt_id: ReceiptId,
    /// Nothing is leased unless the receipt is for this content.
    pub content_hash: ContentHash,
    /// At least this, or nothing. [`Credit::ZERO`] takes whatever fits, even nothing.
    pub need: Credit,
    /// As much as this where it fits ([`LeaseSizing`]). [`Credit::ZERO`] only loads.
    pub want: Credit,
}

/// A [`Want`] as it is sent to the ledger: with an id, so that it can be repeated until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefillRequest {
    pub want: Want,
    /// Identifies it among the requests of the node's epoch for this receipt. Later ones have larger numbers; the first is 1.
    pub id: i64,
    /// It may have been sent before: a statement that carried it was not answered, and may still be running.
    pub again: bool,
}

impl RefillRequest {
    pub const fn first(id: i64, want: Want) -> Self {
        Self { want, id, again: false }
    }

    /// The same request, marked as a repeat.
    #[must_use]
    pub const fn repeated(self) -> Self {
        Self { again: true, ..self }
    }
}

/// A receipt with all inputs of a stream's admission.
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
    /// `None`: the receipt does not exist.
    pub view: Option<ReceiptView>,
    /// Hour, day and month at `now`, after the grant.
    pub windows: [WindowUsage; 3],
    /// The credit that this request added to the node's lease, now or when it was first sent. Zero where it does not
    /// fit, or where the receipt may not stream or is for other content, and in a dimension that no window limits.
    pub granted: Credit,
}

impl Refill {
    /// The credit that did not fit, if that is why nothing was granted. A caller that did not know the size lacks no
    /// more than that.
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
    /// Any moment in the hour of the lease.
    pub window: Timestamp,
    pub epoch: i64,
    pub credit: Credit,
}

/// One batch of usage: the content of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleBatch {
    pub node: NodeEpoch,
    /// Grows by one with each batch of a node's epoch; the ledger keeps the highest as the node's watermark.
    pub sequence: i64,
    pub rows: Vec<UsageRow>,
    pub releases: Vec<Release>,
}

/// The outcome of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Rows that were new. Zero for a batch that had been applied before.
    pub inserted: u64,
}

/// The outcome of one step of reclaiming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    pub leases: u64,
    /// The credit that was charged or released.
    pub credit: Credit,
    /// Those of the leases that were released in either mode, since no crash explains their loss.
    pub spared_leases: u64,
    /// The credit of the spared leases.
    pub spared: Credit,
    /// Whether there may be leases left for another step.
    pub more: bool,
}

/// The outcome of one step of closing an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Closed {
    /// Live leases that were released.
    pub leases: u64,
    /// The credit of those leases.
    pub credit: Credit,
    /// Lost leases whose remaining charge was taken back.
    pub uncharged_leases: u64,
    /// The credit that was taken back.
    pub uncharged: Credit,
    /// Whether there may be leases left for another step.
    pub more: bool,
}

/// The latest epoch of a node in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStanding {
    pub epoch: i64,
    /// Heartbeats of the epoch that the ledger has acknowledged.
    pub heartbeats: u64,
    /// Whether it is neither fenced nor expired.
    pub alive: bool,
}

/// The heartbeats of an epoch that is not fenced, as the ledger has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    pub node_epoch: NodeEpoch,
    /// The number of heartbeats.
    pub heartbeats: u64,
    /// How long a heartbeat keeps the leases valid; `None` when the node's version does not state it.
    pub lease: Option<Duration>,
    /// Whether the epoch counts as an instance: it has not expired, and its node has no later epoch.
    pub alive: bool,
}

impl Pulse {
    /// How many instances share the ledger.
    pub fn count_alive(pulses: &[Self]) -> u64 {
        pulses.iter().filter(|pulse| pulse.alive).count() as u64
    }
}

impl EpochStanding {
    /// Whether the ledger has fewer than the `heartbeats` heartbeats of an epoch that it acknowledged.
    pub fn is_behind(known: Option<Self>, epoch: i64, heartbeats: u64) -> bool {
        known.is_none_or(|known| known.epoch < epoch || known.epoch == epoch && known.heartbeats < heartbeats)
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
    /// A receipt occurs at most once in `requests`, and a node has at most one request for a receipt in flight.
    ///
    /// A request grants once, however often it is sent and in whatever order its statements arrive. A request that is
    /// sent [`again`](RefillRequest::again) gets the original grant. Once it is answered, no statement of it, nor of an
    /// earlier request, can grant anything any more. It is repeated with a `now` of the same hour.
    /// # Errors
    /// `Fenced` when the node's epoch is not alive in the ledger: no statement of this epoch grants anything any more.
    /// After `Unavailable` it may have been granted: repeat it.
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>>;

    /// Applies a batch in one transaction: inserts new rows, adds only those to the windows, takes them off the leases
    /// that they were spent from, gives releases back, and advances the watermark. A batch at or below the watermark
    /// changes nothing, so a repeat after a lost answer counts nothing twice. Fenced epochs settle too: the charge for
    /// a reclaimed lease shrinks by the late rows that explain it.
    ///
    /// # Errors
    /// `Rejected` when a row can never be inserted (its receipt does not exist); then nothing of the batch is applied.
    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled>;

    /// Keeps a row that can never be settled, for an operator to decide about. It is in no window. A repeat keeps it once.
    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()>;

    /// Registers the node's epoch, or keeps it alive for another `ttl` by the ledger's own clock.
    ///
    /// # Errors
    /// `Fenced` when this epoch was reclaimed, or the node has a later epoch.
    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()>;

    /// The latest epoch of a node; `None` when the ledger has none.
    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>>;

    /// Fences an epoch whose process is known to be gone, so that its leases can be reclaimed at once.
    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()>;

    /// The epochs that are not fenced, late ones included: one for each live node, and those of nodes that died recently.
    async fn pulses(&self) -> PortResult<Vec<Pulse>>;

    /// The sum of the live leases of a node's epoch.
    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit>;

    /// Stores the credit that a live epoch has in the ledger without its node's knowledge, for an audit.
    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()>;

    /// Reclaims up to `limit` leases of dead epochs. An epoch is fenced in the transaction that reclaims the first of its
    /// leases.
    ///
    /// Two clocks decide that an epoch is dead. By the caller's own clock it has been `silent` for the validity of its
    /// leases, and has had no heartbeat since; by the ledger's clock its heartbeat has run out. So no single clock that
    /// jumps makes a live epoch look dead.
    ///
    /// `by` is the epoch of the caller. A caller that is not alive itself reclaims nothing: a caller that was suspended
    /// knows nothing about the others. A caller that was late reclaims nothing until it has been in time twice, so that
    /// the others have had time for a heartbeat.
    ///
    /// An epoch that was replaced by a later one of its node while it was alive was not lost in a crash: two processes
    /// have one identity. Its leases are released whatever `mode` says.
    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        now: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed>;

    /// Ends an epoch of which everything is settled, be it fenced already or not: fences it, so that no statement still
    /// running takes a lease, and deletes up to `limit` of its remaining leases. Live ones are released. What is left of the
    /// charge for lost ones is taken back with its usage row: no byte explains it. Only the process that lived the epoch may
    /// close it, because no other knows that all usage was settled. It may be repeated.
    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed>;
}
