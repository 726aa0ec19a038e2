//! The actor of one shard of the quota cache: all that waits for the ledger, for a stream slot, or for time.

mod recalls;
mod refills;
mod slots;

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures::FutureExt as _;
use tokio::sync::oneshot;

use self::{
    recalls::Recalls,
    slots::{HeldSlots, SlotRequest},
};
use super::{
    Admitted, Decision, ShardHandle, ShardState,
    messages::{Acquire, AddProgress, DrainLeases, EndStream, Forfeit, Invalidate, Purpose, Recall, ReleaseSlot},
};
use crate::{
    flow::log_budget::LogBudget,
    ids::{ReceiptId, UsageId},
    mailbox::Posted,
    model::LostLease,
    ports::{SlotGrant, StreamSlot},
    quota::{book::Freshness, cache::QuotaSettings, refill_queue::RefillQueue, refusal::Refusal},
};

/// How often expired entries are dropped, how many at a time, and how many under one hold of the lock.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_STEP: usize = 4096;
const LOCKED_STEP: usize = 256;

pub(in crate::quota::cache) struct QuotaShard {
    settings: QuotaSettings,
    handle: Arc<ShardHandle>,
    /// Requests to the ledger, until their answer is known.
    refills: RefillQueue,
    round_trips: usize,
    /// For lines about refills that the ledger did not answer.
    lines: LogBudget,
    /// This shard's part of the counter of unanswered refills, which all shards share.
    counted_unanswered: u64,
    /// Receipts whose credit was recalled from other instances.
    recalls: Recalls,
    /// Receipts whose running streams must still learn whether they may go on, since the ledger did not answer.
    unanswered: HashSet<ReceiptId>,
    /// Stream slots held in the shared state.
    slots: HeldSlots,
    /// Callers that wait until no lease is left, including those of refills in flight.
    drains: Vec<oneshot::Sender<()>>,
    /// This shard's part of the counter of entries, which all shards share.
    counted: u64,
}

impl QuotaShard {
    pub(in crate::quota::cache) fn new(settings: QuotaSettings, handle: Arc<ShardHandle>) -> Self {
        Self {
            settings,
            handle,
            refills: RefillQueue::default(),
            round_trips: 0,
            lines: LogBudget::default(),
            counted_unanswered: 0,
            recalls: Recalls::default(),
            unanswered: HashSet::new(),
            slots: HeldSlots::default(),
            drains: Vec::new(),
            counted: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, ShardState> {
        self.handle.state()
    }

    fn decide(&mut self, question: Acquire, ctx: &mut Context<Self>) {
        let mut state = self.handle.state();
        // Other questions wait for this receipt: queue behind them to keep the order.
        if let Some(queue) = state.waiting.get_mut(&question.ask.receipt_id) {
            queue.push_back(question);
            return;
        }
        match self.handle.decide(&mut state, &question.ask, Freshness::Required) {
            Decision::Refill(want) => {
                self.handle.counters.misses.fetch_add(1, Relaxed);
                if self.refills.len() >= self.largest_demand() && !self.refills.is_asked(want.receipt_id) {
                    drop(state);
                    return self.refuse(question.purpose, Refusal::unavailable());
                }
                state.waiting.entry(want.receipt_id).or_default().push_back(question);
                drop(state);
                self.want(want, ctx);
            }
            Decision::Decided(decision) => {
                drop(state);
                self.handle.counters.hits.fetch_add(1, Relaxed);
                self.conclude(question, decision, ctx);
            }
        }
    }

    /// The most receipts in requests to the ledger: as many as there may be questions, and in addition as many lost
    /// answers as the book may hold receipts.
    fn largest_demand(&self) -> usize {
        self.settings.book.entries.saturating_add(self.settings.queue as usize)
    }

    /// Answers a question.
    fn conclude(&self, question: Acquire, decision: Result<Admitted, Refusal>, ctx: &mut Context<Self>) {
        match decision {
            Ok(admitted) => self.grant(question, admitted, ctx),
            Err(refusal) => self.refuse(question.purpose, refusal),
        }
    }

    fn refuse(&self, purpose: Purpose, refusal: Refusal) {
        self.handle.counters.refused.fetch_add(1, Relaxed);
        // The caller may have left; a refusal obliges neither side.
        match purpose {
            Purpose::Inspect { reply } => drop(reply.send(Err(refusal))),
            Purpose::Stream { reply, .. } => drop(reply.send(Err(refusal))),
        }
    }

    fn grant(&self, question: Acquire, admitted: Admitted, ctx: &mut Context<Self>) {
        let Acquire { ask, purpose, .. } = question;
        let (stream, session, row_permit, reply) = match purpose {
            Purpose::Inspect { reply } => {
                let _ = reply.send(Ok(admitted.grant));
                return;
            }
            Purpose::Stream { stream, session, row_permit, reply } => (stream, session, row_permit, reply),
        };
        let (limit, active) = (admitted.grant.view.policy.max_concurrent_streams, admitted.grant.active);
        // If the answer cannot be delivered, the reservation undoes itself.
        let reservation = self.handle.reserve(&ask, admitted, stream, session, row_permit);
        let Some(limit) = limit else {
            let _ = reply.send(Ok(reservation));
            return;
        };
        let request = SlotRequest {
            slots: Arc::clone(&self.handle.deps.slots),
            bus: Arc::clone(&self.handle.deps.bus),
            slot: StreamSlot { receipt: ask.receipt_id, stream, session: session.mark() },
            limit,
            ttl: self.settings.slot_ttl,
        };
        let slot = request.slot;
        ctx.spawn(request.take().into_actor(self).map(move |taken, shard, _| match taken {
            Ok(SlotGrant::Taken) => {
                let _ = reply.send(Ok(reservation.with_slot(shard.slots.hold(slot))));
            }
            Ok(SlotGrant::Full { active, .. }) => {
                let _ = reply.send(Err(Refusal::TooManyStreams { limit, active }));
            }
            // The shared state is down: this instance counts alone, and streams go on.
            Err(_) if active <= limit => drop(reply.send(Ok(reservation))),
            Err(_) => drop(reply.send(Err(Refusal::TooManyStreams { limit, active: active - 1 }))),
        }));
    }

    /// Cuts the streams that took credit from a lease, including those that wait for a slow client.
    fn cut_lost_streams(&mut self) {
        let streams = self.state().book.cut_leased();
        if streams > 0 {
            tracing::warn!(streams, "streams are cut: the leases that admitted them are lost");
        }
    }

    fn free_slot(&mut self, stream: UsageId, ctx: &mut Context<Self>) {
        let Some(slot) = self.slots.free(stream) else { return };
        let slots = Arc::clone(&self.handle.deps.slots);
        let mut freed = Box::pin(async move {
            if let Err(error) = slots.release_slot(&slot).await {
                // The slot expires when it is no longer refreshed.
                tracing::debug!(%error, "a stream slot was not released; it expires by itself");
            }
        });
        // Start it right here: an actor polls its futures in no particular order, and the client's next stream must not
        // overtake the release.
        if (&mut freed).now_or_never().is_none() {
            ctx.spawn(freed.into_actor(self));
        }
    }

    /// Drops expired entries, then sets the timer for the next sweep: passes never overlap.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        self.forget(self.handle.deps.clock.monotonic(), SWEEP_STEP);
        for id in std::mem::take(&mut self.unanswered) {
            self.reload(id, ctx);
        }
        self.ask_again(ctx);
        let may_be_given_away = self.settings.lost_lease == LostLease::Release;
        if may_be_given_away && !self.handle.deps.epoch_state.may_spend(self.handle.deps.clock.monotonic()) {
            self.cut_lost_streams();
        }
        ctx.run_later(SWEEP_EVERY, Self::sweep);
    }

    fn forget(&mut self, now: Instant, step: usize) {
        let mut left = step;
        while left > 0 {
            let part = left.min(LOCKED_STEP);
            let releases = self.state().book.sweep(now, part);
            releases.into_iter().for_each(|release| self.handle.deps.usage.release(release));
            left -= part;
        }
        self.count_entries();
    }

    fn count_unanswered(&mut self) {
        let now = self.refills.unanswered() as u64;
        let before = std::mem::replace(&mut self.counted_unanswered, now);
        self.handle.counters.unanswered.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    fn count_entries(&mut self) {
        let now = self.state().book.len() as u64;
        let before = std::mem::replace(&mut self.counted, now);
        self.handle.counters.entries.fetch_add(self.counted.wrapping_sub(before), Relaxed);
    }

    /// Gives back all leases, and answers the callers of drains once no refill can bring more.
    fn finish_drain(&mut self) {
        if self.drains.is_empty() {
            return;
        }
        let releases = self.state().book.drain();
        releases.into_iter().for_each(|release| self.handle.deps.usage.release(release));
        // Unanswered refills may have been granted; those leases are released when the epoch is closed.
        if self.round_trips == 0 && self.refills.is_idle() {
            for reply in self.drains.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    /// Refreshes this instance's slots, then sets the timer for the next refresh.
    fn refresh_slots(&mut self, ctx: &mut Context<Self>) {
        let held = self.slots.all();
        let (slots, ttl) = (Arc::clone(&self.handle.deps.slots), self.settings.slot_ttl);
        let refreshed = async move {
            if !held.is_empty()
                && let Err(error) = slots.refresh_slots(&held, ttl).await
            {
                tracing::debug!(%error, "stream slots were not refreshed; the next refresh tries again");
            }
        };
        ctx.spawn(refreshed.into_actor(self).map(|(), shard, ctx| {
            ctx.run_later(shard.settings.slot_ttl / 3, Self::refresh_slots);
        }));
    }
}

impl Actor for QuotaShard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(SWEEP_EVERY, Self::sweep);
        ctx.run_later(self.settings.slot_ttl / 3, Self::refresh_slots);
    }
}

impl Drop for QuotaShard {
    fn drop(&mut self) {
        // Their callers learn at once that no answer comes.
        drop(std::mem::take(&mut self.state().waiting));
    }
}

impl<M> Handler<Posted<M>> for QuotaShard
where
    M: Message<Result = ()>,
    Self: Handler<M>,
{
    type Result = ();

    fn handle(&mut self, posted: Posted<M>, ctx: &mut Self::Context) {
        Handler::handle(self, posted.open(), ctx);
    }
}

impl Handler<Acquire> for QuotaShard {
    type Result = ();

    fn handle(&mut self, question: Acquire, ctx: &mut Self::Context) {
        self.decide(question, ctx);
        self.count_entries();
    }
}

impl Handler<ReleaseSlot> for QuotaShard {
    type Result = ();

    fn handle(&mut self, ReleaseSlot(stream): ReleaseSlot, ctx: &mut Self::Context) {
        self.free_slot(stream, ctx);
    }
}

impl Handler<EndStream> for QuotaShard {
    type Result = ();

    fn handle(&mut self, EndStream(stream): EndStream, ctx: &mut Self::Context) {
        if self.slots.take_away(stream) {
            self.handle.counters.replaced.fetch_add(1, Relaxed);
            // Nothing leaves a connection that is cut, so the newer stream need not wait for the settlement of this one.
            self.free_slot(stream, ctx);
        }
    }
}

impl Handler<AddProgress> for QuotaShard {
    type Result = ();

    fn handle(&mut self, progress: AddProgress, ctx: &mut Self::Context) {
        let AddProgress { session, bytes, position } = progress;
        let (sessions, now, ttl) =
            (Arc::clone(&self.handle.deps.sessions), self.handle.deps.clock.now(), self.settings.session_ttl);
        let added = async move {
            if let Err(error) = sessions.add_progress(session, bytes, position, now, ttl).await {
                tracing::debug!(%error, "a session's progress was not recorded; the stream is not affected");
            }
        };
        ctx.spawn(added.into_actor(self));
    }
}

impl Handler<Invalidate> for QuotaShard {
    type Result = ();

    fn handle(&mut self, invalidate: Invalidate, ctx: &mut Self::Context) {
        match invalidate {
            Invalidate::Receipt(id) => {
                self.refills.outdate(id);
                let is_running = self.state().book.invalidate(id);
                if is_running {
                    self.reload(id, ctx);
                }
            }
            Invalidate::QuotaPolicy(name) => {
                self.refills.outdate_all();
                let running = self.state().book.invalidate_quota_policy(name.as_deref());
                // A policy limits the amount, not the right. But when anything may have changed, the rights of running
                // streams may have changed too.
                if name.is_none() {
                    for id in running {
                        self.reload(id, ctx);
                    }
                }
            }
        }
    }
}

impl Handler<Recall> for QuotaShard {
    type Result = ();

    fn handle(&mut self, Recall(id): Recall, _: &mut Self::Context) {
        self.give_back(id);
    }
}

impl Handler<Forfeit> for QuotaShard {
    type Result = ();

    fn handle(&mut self, Forfeit { fenced }: Forfeit, _: &mut Self::Context) {
        let node = self.handle.deps.epoch_state.current();
        self.state().book.forfeit(node.epoch);
        self.refills.forfeit(node);
        if fenced || self.settings.lost_lease == LostLease::Release {
            self.cut_lost_streams();
        }
        self.count_unanswered();
    }
}

impl Handler<DrainLeases> for QuotaShard {
    type Result = ();

    fn handle(&mut self, drain: DrainLeases, _: &mut Self::Context) {
        self.drains.push(drain.reply);
        self.finish_drain();
    }
}
