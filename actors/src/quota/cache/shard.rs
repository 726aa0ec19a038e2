//! A shard: its book behind a lock, and its actor.
//!
//! A decision is arithmetic, so the thread of a stream takes it itself, under the lock, and settles the stream in the same way. To have
//! the actor do that would cost each stream two wake-ups of another thread, which is most of what a small stream costs
//! (docs/performance.md). The actor has all that waits: for the ledger, for a stream slot, for time.
//!
//! **The lock** is held for one decision or one settlement. Nothing waits under it.
//!
//! **Order.** While questions wait for a receipt, a further one for that receipt joins them.
//!
//! **A panic under the lock** ends the shard: it admits no further stream, and the node is no longer alive.

mod actor;
pub(super) mod messages;
mod reservation;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering::Relaxed},
};

use actix::Addr;

pub(super) use self::actor::QuotaShard;
pub use self::reservation::{Reservation, StreamEnd};
use self::{
    messages::{Acquire, AddProgress, Invalidate, ReleaseSlot},
    reservation::ReservedStream,
};
use super::{QuotaCounters, QuotaDeps, QuotaSettings};
use crate::{
    ids::{ReceiptId, UsageId},
    mailbox::{Mailbox, Posted},
    model::{Credit, LostLease, Outcome, StreamSession},
    ports::Want,
    quota::{
        book::{BookDecision, DecisionTime, Demand, Freshness, Grant, QuotaBook, StreamAsk},
        epoch_work::EpochWork,
        node_epoch::LeaseTime,
        refusal::Refusal,
        usage_batcher::RowPermit,
    },
};

/// What a shard decides with.
pub(super) struct ShardState {
    pub(super) book: QuotaBook,
    /// Questions that wait for a receipt, in order of arrival; bounded by the permits they hold.
    pub(super) waiting: HashMap<ReceiptId, VecDeque<Acquire>>,
}

/// A granted stream, and the claim on its epoch.
pub(super) struct Admitted {
    pub(super) grant: Grant,
    /// Where it took credit from a lease.
    work: Option<EpochWork>,
}

/// The answer to a question.
pub(super) enum Decision {
    Decided(Result<Admitted, Refusal>),
    /// The book lacks data.
    Refill(Want),
}

impl Decision {
    /// The decision, where there is nowhere to get further data from.
    pub(super) fn or_unavailable(self) -> Result<Admitted, Refusal> {
        match self {
            Self::Decided(decision) => decision,
            Self::Refill(_) => Err(Refusal::unavailable()),
        }
    }
}

pub(crate) struct ShardHandle {
    addr: OnceLock<Addr<QuotaShard>>,
    /// Of all shards together.
    mailbox: Arc<Mailbox>,
    state: Mutex<ShardState>,
    pub(super) deps: QuotaDeps,
    lost_lease: LostLease,
    pub(super) counters: Arc<QuotaCounters>,
}

impl ShardHandle {
    pub(super) fn new(
        settings: &QuotaSettings,
        deps: QuotaDeps,
        counters: Arc<QuotaCounters>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let state = ShardState { book: QuotaBook::new(settings.book), waiting: HashMap::new() };
        let (addr, state) = (OnceLock::new(), Mutex::new(state));
        Self { addr, mailbox, state, deps, lost_lease: settings.lost_lease, counters }
    }

    /// Takes the address of the shard's actor. There is one, once.
    pub(super) fn started(&self, addr: Addr<QuotaShard>) {
        let _ = self.addr.set(addr);
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.state.is_poisoned() && self.addr.get().is_some_and(Addr::connected)
    }

    /// Sends the actor a message that must arrive. It is handled even when the sender is gone, since no sender waits for a reply.
    pub(super) fn tell<M>(&self, message: M) -> bool
    where
        M: actix::Message<Result = ()> + Send + 'static,
        QuotaShard: actix::Handler<Posted<M>>,
    {
        self.addr.get().is_some_and(|addr| addr.try_send(self.mailbox.post(message)).is_ok())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next decision ask the ledger, from now on. The actor then sees to what is under way.
    pub(super) fn invalidate(&self, invalidate: Invalidate) {
        match &invalidate {
            Invalidate::Receipt(id) => drop(self.state().book.invalidate(*id)),
            Invalidate::QuotaPolicy(name) => drop(self.state().book.invalidate_quota_policy(name.as_deref())),
        }
        self.tell(invalidate);
    }

    /// Waits until no decision that has begun by now is under way.
    pub(super) fn wait_for_decisions(&self) {
        drop(self.state());
    }

    /// The present moment. To be read under the lock: a decision that reads it before a fence is then seen by what the shard does about
    /// the fence.
    pub(super) fn moment(&self) -> DecisionTime {
        let (clock, epoch_state) = (&self.deps.clock, &self.deps.epoch_state);
        let monotonic = clock.monotonic();
        // Read this before the epoch: in the other order, a fence and a new epoch in between would make leases of the
        // old epoch look valid.
        let may_spend = epoch_state.may_spend(monotonic);
        DecisionTime { wall: clock.now(), monotonic, epoch: epoch_state.current().epoch, may_spend }
    }

    pub(super) fn decide(&self, state: &mut ShardState, ask: &StreamAsk, freshness: Freshness) -> Decision {
        let moment = self.moment();
        match state.book.acquire(ask, &moment, freshness) {
            BookDecision::Granted(grant) => {
                // Still under the lock: an epoch without work is ended after a wait for this decision.
                let work = grant.lease_epoch.map(|epoch| self.deps.epoch_state.works().begin_work(epoch));
                Decision::Decided(Ok(Admitted { grant, work }))
            }
            BookDecision::Refused(refusal) => Decision::Decided(Err(refusal)),
            BookDecision::Refill(want) => Decision::Refill(want),
        }
    }

    /// Decides about a question that has to wait for nothing; `None` for any other.
    pub(super) fn decide_at_once(&self, ask: &StreamAsk) -> Option<Result<Admitted, Refusal>> {
        if self.state.is_poisoned() {
            return Some(Err(Refusal::unavailable()));
        }
        let mut state = self.state();
        let needs_slot = ask.demand != Demand::Inspect && state.book.limits_streams(ask.receipt_id);
        if needs_slot || state.waiting.contains_key(&ask.receipt_id) {
            return None;
        }
        let Decision::Decided(decision) = self.decide(&mut state, ask, Freshness::Required) else { return None };
        drop(state);
        self.counters.hits.fetch_add(1, Relaxed);
        if decision.is_err() {
            self.counters.refused.fetch_add(1, Relaxed);
        }
        Some(decision)
    }

    /// The reservation of an admitted stream. From here on it owns the obligation to settle.
    pub(super) fn reserve(
        self: &Arc<Self>,
        ask: &StreamAsk,
        Admitted { grant, work }: Admitted,
        stream: UsageId,
        session: StreamSession,
        mut row_permit: RowPermit,
    ) -> Reservation {
        self.counters.granted.fetch_add(1, Relaxed);
        row_permit.epoch = work;
        let held = ReservedStream {
            receipt_id: ask.receipt_id,
            stream,
            session: session.named(),
            client: None,
            leased: grant.leased,
            lease_epoch: grant.lease_epoch,
            started_at: grant.started_at,
            slot: None,
            is_leaving: false,
            content_hash: ask.content_hash,
            row_permit,
        };
        let lease_time = self.lease_time(&grant);
        Reservation::new(grant, held, Arc::clone(self)).within(lease_time)
    }

    /// The lease time of a stream. Where lost leases are charged, everything that the stream may still send is charged, so it
    /// may go on while this node does not know whether its epoch is over.
    fn lease_time(&self, grant: &Grant) -> Option<LeaseTime> {
        let (epoch_state, clock) = (Arc::clone(&self.deps.epoch_state), Arc::clone(&self.deps.clock));
        let is_released = self.lost_lease == LostLease::Release;
        Some(LeaseTime { epoch_state, clock, epoch: grant.lease_epoch?, is_released })
    }

    /// Settles a stream that has ended.
    fn settle(&self, held: ReservedStream, ended: StreamEnd) {
        if ended.outcome == Outcome::Revoked {
            self.counters.revoked.fetch_add(1, Relaxed);
        }
        // Nothing sent and not complete: as if it had never been admitted.
        let delivered = ended.bytes_sent > 0 || matches!(ended.outcome, Outcome::Completed | Outcome::Delegated);
        let sent = if delivered { Credit::new(ended.bytes_sent, 1) } else { Credit::ZERO };
        let (id, is_leaving) = (held.receipt_id, held.is_leaving);
        let release = self.state().book.settle(id, held.leased, sent, held.lease_epoch, held.started_at);
        if held.slot.is_some() {
            // If the actor is gone, the slot expires when it is no longer refreshed.
            self.tell(ReleaseSlot(held.stream));
        }
        if delivered {
            if let Some(session) = held.session {
                self.tell(AddProgress { session, bytes: ended.bytes_sent, position: ended.position });
            }
            let row = held.row(ended.bytes_sent, ended.outcome, self.deps.clock.now());
            self.deps.usage.record(row, sent.min(held.leased), held.row_permit);
        } else {
            held.row_permit.spooled.cancel();
        }
        // After the row, so that the lease is settled before its rest goes back.
        if let Some(release) = release {
            self.deps.usage.release(release);
        }
        if is_leaving {
            self.state().book.left(id);
        }
        // Last, so that a reader who sees no active stream finds all usage with the batcher.
        self.counters.settled();
    }
}
