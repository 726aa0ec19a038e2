//! The life of this node in the ledger: the epoch of its leases, and until when it may spend them.
//!
//! Shared state with one writer: the heartbeat writes it, and the quota shards read it for each decision.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    clock::Clock,
    ids::{NodeId, TimelineId},
    model::{Credit, NodeEpoch},
    ports::Pulse,
    quota::{epoch_work::EpochWorks, held_credit::HeldCredit, other_epochs::OtherEpochs},
};

/// The lease that admitted a stream, for its validity.
pub(crate) struct LeaseTime {
    pub(crate) epoch_state: Arc<NodeEpochState>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) epoch: i64,
    /// Lost leases are released: bytes that the stream sends after the lease is over may be granted to another node as well.
    pub(crate) is_released: bool,
}

impl LeaseTime {
    /// Whether the stream must end: the ledger fenced the epoch, or it may have given the lease to other nodes, since it was
    /// silent for a lease's time.
    pub(crate) fn is_over(&self) -> bool {
        if self.epoch_state.was_fenced(self.epoch) {
            return true;
        }
        let may_spend =
            || self.epoch_state.may_spend(self.clock.monotonic()) && self.epoch_state.current().epoch == self.epoch;
        self.is_released && !may_spend()
    }
}

/// The epoch of this node, and the validity of its leases.
#[derive(Debug)]
pub struct NodeEpochState {
    node: NodeId,
    epoch: AtomicI64,
    began: Instant,
    /// Milliseconds after `began` until which leases may be spent; 0 means never.
    valid_until: AtomicU64,
    instances: AtomicU32,
    /// Heartbeats of this epoch that the ledger has acknowledged.
    heartbeats: AtomicU64,
    /// Heartbeats of this epoch that were sent: the ledger has no more.
    heartbeats_sent: AtomicU64,
    namesake: AtomicBool,
    /// The timeline of the epoch.
    timeline: Mutex<Option<TimelineId>>,
    /// The database is in another timeline than the epoch.
    displaced: AtomicBool,
    restores: AtomicU64,
    /// The node stops: it sends no more heartbeats and begins no further epoch.
    ends: AtomicBool,
    /// The credit that it holds.
    held: HeldCredit,
    /// The heartbeats of the other nodes, as this node has seen them.
    others: OtherEpochs,
    /// The last epoch that the ledger fenced while this process lived.
    last_fenced: AtomicI64,
    /// Its epochs that may still bring usage.
    works: EpochWorks,
    uncharged_leases: AtomicU64,
    uncharged_bytes: AtomicU64,
    /// Credit that the ledger counted for it at the last comparison, beyond the held credit.
    unknown_bytes: AtomicU64,
    unknown_requests: AtomicU64,
}

/// The record of a node's epoch that outlives its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochRecord {
    pub node_epoch: NodeEpoch,
    /// Heartbeats of the epoch that the ledger has acknowledged.
    pub heartbeats: u64,
    /// Heartbeats of the epoch that were sent, so that the ledger has no more.
    pub heartbeats_sent: u64,
    pub timeline: Option<TimelineId>,
}

impl NodeEpochState {
    pub fn new(node: NodeId, epoch: i64, began: Instant) -> Self {
        let held = HeldCredit::default();
        held.begin(epoch);
        Self {
            node,
            epoch: AtomicI64::new(epoch),
            began,
            valid_until: AtomicU64::new(0),
            instances: AtomicU32::new(1),
            heartbeats: AtomicU64::new(0),
            heartbeats_sent: AtomicU64::new(0),
            namesake: AtomicBool::new(false),
            timeline: Mutex::new(None),
            displaced: AtomicBool::new(false),
            restores: AtomicU64::new(0),
            ends: AtomicBool::new(false),
            held,
            others: OtherEpochs::default(),
            last_fenced: AtomicI64::new(i64::MIN),
            works: EpochWorks::new(epoch),
            uncharged_leases: AtomicU64::new(0),
            uncharged_bytes: AtomicU64::new(0),
            unknown_bytes: AtomicU64::new(0),
            unknown_requests: AtomicU64::new(0),
        }
    }

    pub fn current(&self) -> NodeEpoch {
        NodeEpoch { node: self.node, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// Whether leases may be spent at `now`.
    pub fn may_spend(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.began);
        elapsed < Duration::from_millis(self.valid_until.load(Ordering::Acquire))
    }

    pub(crate) const fn held(&self) -> &HeldCredit {
        &self.held
    }

    pub(crate) const fn others(&self) -> &OtherEpochs {
        &self.others
    }

    /// Whether the ledger fenced this epoch, or a later one, while this process lived.
    fn was_fenced(&self, epoch: i64) -> bool {
        epoch <= self.last_fenced.load(Ordering::Acquire)
    }

    pub(crate) const fn works(&self) -> &EpochWorks {
        &self.works
    }

    /// Lost leases of this node whose charge was taken back, and the bytes of it.
    pub fn uncharged(&self) -> (u64, u64) {
        (self.uncharged_leases.load(Ordering::Relaxed), self.uncharged_bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn count_uncharged(&self, leases: u64, credit: Credit) {
        self.uncharged_leases.fetch_add(leases, Ordering::Relaxed);
        self.uncharged_bytes.fetch_add(credit.bytes, Ordering::Relaxed);
    }

    /// Epochs without a heartbeat for as long as their leases are valid, by this node's own clock.
    pub fn silent(&self, now: Instant) -> Vec<Pulse> {
        self.others.silent(now)
    }

    /// Credit that the ledger had leased to this node at the last comparison, without the node's knowledge; must be 0.
    pub fn unknown(&self) -> Credit {
        Credit::new(self.unknown_bytes.load(Ordering::Relaxed), self.unknown_requests.load(Ordering::Relaxed))
    }

    pub(crate) fn compared(&self, unknown: Credit) {
        self.unknown_bytes.store(unknown.bytes, Ordering::Relaxed);
        self.unknown_requests.store(unknown.requests, Ordering::Relaxed);
    }

    pub(crate) fn ends(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }

    /// Marks that the node is about to close its epoch.
    pub(crate) fn end(&self) {
        self.ends.store(true, Ordering::Release);
    }

    /// Instances alive when the ledger was last asked, including this one.
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    pub(crate) fn set_instances(&self, alive: u64) {
        self.instances.store(u32::try_from(alive).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    }

    /// Makes leases valid for `ttl` after `sent`, a moment before the heartbeat was sent. The ledger counts from a
    /// later moment, so this node stops first.
    pub(crate) fn renew(&self, sent: Instant, ttl: Duration) {
        let until = sent.saturating_duration_since(self.began) + ttl;
        self.valid_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        self.heartbeats.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a heartbeat that is about to be sent.
    pub(crate) fn send(&self) {
        self.heartbeats_sent.fetch_add(1, Ordering::AcqRel);
    }

    /// Heartbeats of this epoch that the ledger has acknowledged. It has no fewer, unless it was set back.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Acquire)
    }

    pub(crate) fn record(&self) -> EpochRecord {
        EpochRecord {
            node_epoch: self.current(),
            heartbeats: self.heartbeats(),
            heartbeats_sent: self.heartbeats_sent.load(Ordering::Acquire),
            timeline: *self.history(),
        }
    }

    fn history(&self) -> MutexGuard<'_, Option<TimelineId>> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the database's timeline. Returns true when it has changed. Then this epoch belongs to the old timeline,
    /// and nothing is spent until the next epoch begins.
    pub(crate) fn enter(&self, timeline: TimelineId) -> bool {
        let last = self.history().replace(timeline);
        let displaced = last.is_some_and(|last| last != timeline);
        if displaced {
            self.restores.fetch_add(1, Ordering::Relaxed);
            self.displaced.store(true, Ordering::Release);
            self.valid_until.store(0, Ordering::Release);
        }
        displaced
    }

    pub(crate) fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Acquire)
    }

    /// How often the database was found to have been restored.
    pub fn restores(&self) -> u64 {
        self.restores.load(Ordering::Relaxed)
    }

    /// The ledger has lost heartbeats that it had acknowledged: nothing is spent, and nothing is expected of it, until
    /// it has acknowledged the next heartbeat.
    pub(crate) fn forget_beats(&self) {
        self.valid_until.store(0, Ordering::Release);
        self.heartbeats.store(0, Ordering::Release);
    }

    /// Another process runs with this node's identity: nothing is spent any more.
    pub(crate) fn meet_namesake(&self) {
        self.valid_until.store(0, Ordering::Release);
        self.namesake.store(true, Ordering::Release);
    }

    pub fn has_namesake(&self) -> bool {
        self.namesake.load(Ordering::Acquire)
    }

    /// Whether the epoch belongs to this timeline, as far as is known.
    pub(crate) fn is_of(&self, timeline: TimelineId) -> bool {
        self.history().is_none_or(|known| known == timeline)
    }

    /// Starts a new epoch after the old one has ended: no lease is valid before the next heartbeat. `fenced` says that the
    /// ledger has fenced the old one; otherwise its timeline ended.
    pub(crate) fn restart(&self, epoch: i64, fenced: bool) {
        self.valid_until.store(0, Ordering::Release);
        self.heartbeats.store(0, Ordering::Release);
        self.heartbeats_sent.store(0, Ordering::Release);
        self.displaced.store(false, Ordering::Release);
        if fenced {
            self.last_fenced.store(self.current().epoch, Ordering::Release);
        }
        self.works.begin_epoch(epoch, fenced);
        self.held.begin(epoch);
        self.epoch.store(epoch, Ordering::Release);
    }
}
