//! `QuotaCache`: decides whether a stream may start, and takes back the credit that it did not use.
//!
//! It is sharded by receipt: each receipt belongs to one shard, whose [`QuotaBook`](crate::quota::book) decides by arithmetic. The
//! thread of a stream takes such a decision itself ([`shard`]). Only what has to wait goes to the shard's actor: data that the
//! book lacks is fetched from the ledger, in one round trip for all receipts that wait, and all requests for one receipt share its
//! refill. A refill whose answer is lost is repeated under the same id until it is answered
//! ([`RefillQueue`](crate::quota::refill_queue)): a shard never forgets a request to the ledger.
//!
//! **Bound.** Each question that waits carries a permit of its shard's queue from [`QuotaHandle::acquire`] to its answer. Without a
//! permit the stream is refused as overloaded, at once. A shard keeps at most as many unanswered refills as its book may hold
//! receipts. An admitted stream carries a permit of the usage queue, so there is always room for its usage row.
//!
//! **When the ledger is down**, receipts and leases in memory are used until the leases' time to live.
//!
//! **A crash loses** no record of sent bytes: the spool has them, or, without it, unsettled lease credit is charged or released when it
//! is reclaimed.

mod shard;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, ArbiterHandle};
use tokio::sync::{Notify, oneshot};

use self::shard::{
    QuotaShard, ShardHandle,
    messages::{Acquire, DrainLeases, EndStream, Forfeit, Invalidate, Purpose, Recall},
};
pub use self::shard::{Reservation, StreamEnd};
use crate::{
    clock::Clock,
    flow::admission::{Admission, AdmissionSnapshot},
    ids::{ContentHash, ReceiptId, UsageId},
    mailbox::Mailbox,
    model::{LeaseSizing, LostLease, StreamSession},
    ports::{Changes, InvalidationBus, Ledger, SessionStore, StreamSlots, Tag},
    quota::{
        book::{BookSettings, Demand, Grant, StreamAsk},
        node_epoch::NodeEpochState,
        refusal::Refusal,
        usage_batcher::UsageHandle,
    },
};

/// A stream that has sent its last byte finds that out within half of this.
const LEAVING_PATIENCE: Duration = Duration::from_millis(50);
const LEAVING_LOOK: Duration = Duration::from_millis(1);

/// Bounds and times of the quota cache.
#[derive(Debug, Clone, Copy)]
pub struct QuotaSettings {
    pub shards: usize,
    /// Questions in flight per shard.
    pub queue: u32,
    /// Per shard.
    pub book: BookSettings,
    pub sizing: LeaseSizing,
    /// How long a question may wait for the ledger.
    pub patience: Duration,
    /// How long a stream slot outlives an instance that no longer refreshes it.
    pub slot_ttl: Duration,
    pub session_ttl: Duration,
    /// What happens to the leases of lost instances whose credit is needed.
    pub lost_lease: LostLease,
}

/// Dependencies of the shards.
#[derive(Clone)]
pub struct QuotaDeps {
    pub ledger: Arc<dyn Ledger>,
    pub slots: Arc<dyn StreamSlots>,
    pub sessions: Arc<dyn SessionStore>,
    /// Asks other instances for idle credit, and all instances to end a stream whose slot is needed.
    pub bus: Arc<dyn InvalidationBus>,
    /// The log through which other instances learn of a recall when the bus does not reach them.
    pub changes: Arc<dyn Changes>,
    pub clock: Arc<dyn Clock>,
    pub usage: UsageHandle,
    pub epoch_state: Arc<NodeEpochState>,
    /// Notified when the ledger answers that this node's epoch is gone.
    pub fenced: Arc<Notify>,
}

/// The counters of all shards together.
#[derive(Debug, Default)]
pub struct QuotaCounters {
    /// Questions answered from memory.
    pub hits: AtomicU64,
    /// Questions that waited for the ledger.
    pub misses: AtomicU64,
    pub granted: AtomicU64,
    pub refused: AtomicU64,
    /// Round trips for refills.
    pub refills: AtomicU64,
    pub refill_errors: AtomicU64,
    /// Refills whose outcome is unknown: each is repeated until it is known.
    pub unanswered: AtomicU64,
    /// How often other instances were asked for idle credit.
    pub recalls: AtomicU64,
    /// Receipts in memory.
    pub entries: AtomicU64,
    /// Streams that were admitted and are not settled yet.
    pub active_streams: AtomicU64,
    /// Streams cut because their receipt was revoked.
    pub revoked: AtomicU64,
    /// Streams cut because a newer stream of the same session took their slot.
    pub replaced: AtomicU64,
    /// Streams cut because the lease that admitted them was lost: its epoch is over, or other nodes may have it.
    pub cut: AtomicU64,
}

struct Shard {
    handle: Arc<ShardHandle>,
    admission: Admission,
}

/// The handle of the quota cache.
#[derive(Clone)]
pub struct QuotaHandle {
    shards: Arc<[Shard]>,
    usage: UsageHandle,
    clock: Arc<dyn Clock>,
    patience: Duration,
    counters: Arc<QuotaCounters>,
    mailbox: Arc<Mailbox>,
}

impl QuotaHandle {
    /// Starts the shards on the given arbiters, round robin.
    pub fn start(settings: QuotaSettings, deps: &QuotaDeps, arbiters: &[ArbiterHandle]) -> Self {
        let (counters, mailbox) = (Arc::new(QuotaCounters::default()), Mailbox::of("quota shard"));
        let shards = arbiters
            .iter()
            .cycle()
            .take(settings.shards.max(1))
            .map(|arbiter| {
                let (counters, mailbox) = (Arc::clone(&counters), Arc::clone(&mailbox));
                let handle = Arc::new(ShardHandle::new(&settings, deps.clone(), counters, mailbox));
                let shard = QuotaShard::new(settings, Arc::clone(&handle));
                let addr = QuotaShard::start_in_arbiter(arbiter, |ctx| {
                    ctx.set_mailbox_capacity(0);
                    shard
                });
                handle.started(addr);
                Shard { handle, admission: Admission::new("quota", settings.queue) }
            })
            .collect();
        Self {
            shards,
            usage: deps.usage.clone(),
            clock: Arc::clone(&deps.clock),
            patience: settings.patience,
            counters,
            mailbox,
        }
    }

    /// Admits a stream: reserves the whole amount that it asks for, or refuses it. Dropping the reservation unsettled
    /// charges nothing.
    ///
    /// # Errors
    /// The refusal.
    pub async fn acquire(&self, ask: StreamAsk, session: StreamSession) -> Result<Reservation, Refusal> {
        if !self.usage.is_alive() {
            // No stream begins whose usage row no actor would take.
            return Err(Refusal::unavailable());
        }
        let Some(row_permit) = self.usage.admit() else {
            return Err(Refusal::overloaded("usage"));
        };
        let shard = self.shard(ask.receipt_id);
        let stream = UsageId::next();
        if let Some(decision) = shard.handle.decide_at_once(&ask) {
            return Ok(shard.handle.reserve(&ask, decision?, stream, session, row_permit));
        }
        let (reply, answer) = oneshot::channel();
        self.ask(shard, ask, Purpose::Stream { stream, session, row_permit, reply }, answer).await
    }

    /// Whether the receipt would admit a stream. Reserves nothing.
    ///
    /// # Errors
    /// The refusal.
    pub async fn inspect(&self, receipt_id: ReceiptId, content_hash: ContentHash) -> Result<Grant, Refusal> {
        let shard = self.shard(receipt_id);
        let ask = StreamAsk { receipt_id, content_hash, demand: Demand::Inspect };
        if let Some(decision) = shard.handle.decide_at_once(&ask) {
            return Ok(decision?.grant);
        }
        let (reply, answer) = oneshot::channel();
        self.ask(shard, ask, Purpose::Inspect { reply }, answer).await
    }

    /// Has the shard's actor answer a question that may have to wait.
    async fn ask<T>(
        &self,
        shard: &Shard,
        ask: StreamAsk,
        purpose: Purpose,
        answer: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let Some(permit) = shard.admission.try_admit(1) else { return Err(Refusal::overloaded("quota")) };
        let deadline = self.clock.monotonic() + self.patience;
        if !shard.handle.tell(Acquire { ask, purpose, deadline, _permit: permit }) {
            return Err(Refusal::unavailable());
        }
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            // A reservation that comes too late undoes itself when it is dropped.
            Ok(Err(_)) | Err(_) => Err(Refusal::unavailable()),
        }
    }

    /// Invalidates the entries that depend on the tag, and stops streams whose receipt turns out to be revoked.
    pub fn invalidate(&self, tag: &Tag) {
        match tag {
            Tag::Receipt(id) => self.shard(*id).handle.invalidate(Invalidate::Receipt(*id)),
            Tag::QuotaPolicy(name) => self.invalidate_policy(Some(name)),
            Tag::Recall(id) => {
                self.shard(*id).handle.tell(Recall(*id));
            }
            // The tag does not say which shard has the stream, if this node has it at all.
            Tag::EndStream(id) => self.broadcast(|| EndStream(*id)),
            Tag::Asset(_)
            | Tag::Lineage
            | Tag::Governance(_)
            | Tag::Content(_)
            | Tag::Identity(_)
            | Tag::Key(_)
            | Tag::Entries(_) => {}
        }
    }

    /// Invalidates all entries: invalidations may have been missed.
    pub fn invalidate_all(&self) {
        self.invalidate_policy(None);
    }

    fn invalidate_policy(&self, name: Option<&String>) {
        for shard in self.shards.iter() {
            shard.handle.invalidate(Invalidate::QuotaPolicy(name.cloned()));
        }
    }

    /// Drops all leases: the ledger has reclaimed them. If it fenced their epoch, the streams that took credit from them end.
    pub(crate) fn forfeit(&self, fenced: bool) {
        self.broadcast(|| Forfeit { fenced });
    }

    /// Waits until every shard runs. Until then a mailbox has a bound of its own, and would reject messages.
    pub async fn started(&self) {
        // With no leases to give back, this is just a round trip to each shard.
        self.drain().await;
    }

    /// Waits for the receipt's streams whose last bytes are handed over, for as long as a client needs that has read them already.
    pub async fn left(&self, id: ReceiptId) {
        let began = Instant::now();
        while self.shard(id).handle.state().book.is_leaving(id) && began.elapsed() < LEAVING_PATIENCE {
            tokio::time::sleep(LEAVING_LOOK).await;
        }
    }

    /// Waits for the decisions under way, so that no stream begins any more under an epoch before the present one; false when rows that
    /// ended streams passed on are lost with the usage batcher.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.shards.iter().for_each(|shard| shard.handle.wait_for_decisions());
        self.usage.is_alive()
    }

    /// Hands every unspent lease to the usage batcher. For shutdown, after the streams have ended.
    pub async fn drain(&self) {
        for shard in self.shards.iter() {
            let (reply, done) = oneshot::channel();
            if shard.handle.tell(DrainLeases { reply }) {
                let _ = tokio::time::timeout(self.patience, done).await;
            }
        }
    }

    /// Whether every shard is alive. A shard that panicked does not come back, because its leases are lost; the node should exit.
    pub fn is_alive(&self) -> bool {
        self.shards.iter().all(|shard| shard.handle.is_alive())
    }

    pub fn counters(&self) -> &QuotaCounters {
        &self.counters
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub fn queues(&self) -> impl Iterator<Item = AdmissionSnapshot> + '_ {
        self.shards.iter().map(|shard| shard.admission.snapshot())
    }

    fn shard(&self, id: ReceiptId) -> &Shard {
        // Receipt ids are random, so any of their bits are evenly distributed.
        let bits = id.as_uuid().as_u128() as usize;
        &self.shards[bits % self.shards.len()]
    }

    fn broadcast<M>(&self, message: impl Fn() -> M)
    where
        M: actix::Message<Result = ()> + Send + 'static,
        QuotaShard: actix::Handler<M>,
    {
        for shard in self.shards.iter() {
            shard.handle.tell(message());
        }
    }
}

impl QuotaCounters {
    fn settled(&self) {
        self.active_streams.fetch_sub(1, Relaxed);
    }
}
