//! `QuotaCache`: decides whether a stream may start, and takes back the credit that it did not use.
//!
//! It is sharded by receipt: each receipt belongs to one shard, an actor that owns a [`QuotaBook`](crate::quota::book)
//! and decides by arithmetic. Data that the book lacks is fetched from the ledger, in one round trip for all receipts
//! that wait, and all requests for one receipt share its refill. A refill whose answer is lost is repeated under the
//! same id until it is answered ([`RefillQueue`](crate::quota::refill_queue)): a shard never forgets a request to the ledger.
//!
//! **Bound.** Each question carries a permit of its shard's queue from [`QuotaHandle::acquire`] to its answer. Without a
//! permit the stream is refused as overloaded, at once. A shard keeps at most as many unanswered refills as its book may hold
//! receipts. An admitted stream carries a permit of the usage queue, so there is always room for its usage row.
//!
//! **When the ledger is down**, receipts and leases in memory are used until the leases' time to live.
//!
//! **A crash loses** no record of sent bytes: the spool has them, or, without it, unsettled lease credit is charged or released when it
//! is reclaimed.

mod messages;
mod reservation;
mod shard;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, Addr, ArbiterHandle};
use tokio::sync::{Notify, oneshot};

pub use self::reservation::{Reservation, StreamEnd};
use self::{
    messages::{Acquire, CatchUp, DrainLeases, EndStream, Forfeit, Invalidate, Purpose, Recall},
    shard::QuotaShard,
};
use crate::{
    clock::Clock,
    flow::admission::{Admission, AdmissionSnapshot},
    ids::{ContentHash, ReceiptId, UsageId},
    model::{LeaseSizing, LostLease, StreamSession},
    ports::{Changes, InvalidationBus, Ledger, SessionStore, StreamSlots, Tag},
    quota::{
        book::{BookSettings, Demand, Grant, StreamAsk},
        node_epoch::NodeEpochState,
        refusal::Refusal,
        usage_batcher::UsageHandle,
    },
};

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
    /// Settlements that could not be delivered to their shard; must be 0.
    pub lost_settlements: AtomicU64,
}

/// The address of a shard. It outlives the actor's `Addr` clones, each of which would allocate.
pub(crate) struct Link {
    addr: OnceLock<Addr<QuotaShard>>,
    counters: Arc<QuotaCounters>,
    clock: Arc<dyn Clock>,
}

impl Link {
    /// Sends a message that must arrive. It is handled even when the sender is gone, since no sender waits for a reply.
    fn tell<M>(&self, message: M) -> bool
    where
        M: actix::Message + Send + 'static,
        M::Result: Send,
        QuotaShard: actix::Handler<M>,
    {
        self.addr.get().is_some_and(|addr| addr.try_send(message).is_ok())
    }
}

struct Shard {
    link: Arc<Link>,
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
}

impl QuotaHandle {
    /// Starts the shards on the given arbiters, round robin.
    pub fn start(settings: QuotaSettings, deps: &QuotaDeps, arbiters: &[ArbiterHandle]) -> Self {
        let counters = Arc::new(QuotaCounters::default());
        let shards = arbiters
            .iter()
            .cycle()
            .take(settings.shards.max(1))
            .map(|arbiter| {
                let (counters, clock) = (Arc::clone(&counters), Arc::clone(&deps.clock));
                let link = Arc::new(Link { addr: OnceLock::new(), counters, clock });
                let shard = QuotaShard::new(settings, deps.clone(), Arc::clone(&link));
                let addr = QuotaShard::start_in_arbiter(arbiter, |ctx| {
                    ctx.set_mailbox_capacity(0);
                    shard
                });
                // The link was made above and has no other user, so it is empty.
                let _ = link.addr.set(addr);
                Shard { link, admission: Admission::new("quota", settings.queue) }
            })
            .collect();
        Self {
            shards,
            usage: deps.usage.clone(),
            clock: Arc::clone(&deps.clock),
            patience: settings.patience,
            counters,
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
            return Err(Refusal::Unavailable { retry_after: Duration::from_secs(1) });
        }
        let Some(row_permit) = self.usage.admit() else {
            return Err(overloaded("usage"));
        };
        let (reply, answer) = oneshot::channel();
        let purpose = Purpose::Stream { stream: UsageId::next(), session, row_permit, reply };
        self.ask(ask, purpose, answer).await
    }

    /// Whether the receipt would admit a stream. Reserves nothing.
    ///
    /// # Errors
    /// The refusal.
    pub async fn inspect(&self, receipt_id: ReceiptId, content_hash: ContentHash) -> Result<Grant, Refusal> {
        let (reply, answer) = oneshot::channel();
        let ask = StreamAsk { receipt_id, content_hash, demand: Demand::Inspect };
        self.ask(ask, Purpose::Inspect { reply }, answer).await
    }

    async fn ask<T>(
        &self,
        ask: StreamAsk,
        purpose: Purpose,
        answer: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let shard = self.shard(ask.receipt_id);
        let Some(permit) = shard.admission.try_admit(1) else { return Err(overloaded("quota")) };
        let deadline = self.clock.monotonic() + self.patience;
        if !shard.link.tell(Acquire { ask, purpose, deadline, _permit: permit }) {
            return Err(Refusal::Unavailable { retry_after: Duration::from_secs(1) });
        }
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            // A reservation that comes too late undoes itself when it is dropped.
            Ok(Err(_)) | Err(_) => Err(Refusal::Unavailable { retry_after: Duration::from_secs(1) }),
        }
    }

    /// Invalidates the entries that depend on the tag, and stops streams whose receipt turns out to be revoked.
    pub fn invalidate(&self, tag: &Tag) {
        match tag {
            Tag::Receipt(id) => {
                self.shard(*id).link.tell(Invalidate::Receipt(*id));
            }
            Tag::QuotaPolicy(name) => self.broadcast(|| Invalidate::QuotaPolicy(Some(name.clone()))),
            Tag::Recall(id) => {
                self.shard(*id).link.tell(Recall(*id));
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
        self.broadcast(|| Invalidate::QuotaPolicy(None));
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

    /// Waits until the usage batcher has the usage of a receipt's ended streams.
    pub async fn caught_up(&self, id: ReceiptId) {
        let (reply, done) = oneshot::channel();
        if self.shard(id).link.tell(CatchUp { reply }) {
            let _ = tokio::time::timeout(self.patience, done).await;
        }
    }

    /// Waits until every shard has handled all earlier messages; false when one does not answer in time, or when rows that they passed
    /// on are lost with the usage batcher.
    pub(crate) async fn all_caught_up(&self) -> bool {
        if !self.usage.is_alive() {
            return false;
        }
        for shard in self.shards.iter() {
            let (reply, done) = oneshot::channel();
            let told = shard.link.tell(CatchUp { reply });
            if !told || !matches!(tokio::time::timeout(self.patience, done).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    /// Hands every unspent lease to the usage batcher. For shutdown, after the streams have ended.
    pub async fn drain(&self) {
        for shard in self.shards.iter() {
            let (reply, done) = oneshot::channel();
            if shard.link.tell(DrainLeases { reply }) {
                let _ = tokio::time::timeout(self.patience, done).await;
            }
        }
    }

    /// Whether every shard is alive. A shard that panicked does not come back, because its leases are lost; the node should exit.
    pub fn is_alive(&self) -> bool {
        self.shards.iter().all(|shard| shard.link.addr.get().is_some_and(Addr::connected))
    }

    pub fn counters(&self) -> &QuotaCounters {
        &self.counters
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
        M: actix::Message + Send + 'static,
        M::Result: Send,
        QuotaShard: actix::Handler<M>,
    {
        for shard in self.shards.iter() {
            shard.link.tell(message());
        }
    }
}

fn overloaded(queue: &'static str) -> Refusal {
    Refusal::Overloaded { queue, retry_after: Duration::from_secs(1) }
}

impl QuotaCounters {
    fn settled(&self) {
        self.active_streams.fetch_sub(1, Relaxed);
    }
}
