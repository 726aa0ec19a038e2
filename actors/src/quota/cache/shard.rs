//! One shard of the quota cache: the actor that owns a book.

mod recalls;
mod refills;
mod slots;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use futures::FutureExt as _;
use tokio::sync::oneshot;

use self::{
    recalls::Recalls,
    slots::{HeldSlots, SlotRequest},
};
use super::{
    Link, QuotaDeps, QuotaSettings, Reservation,
    messages::{Acquire, CatchUp, DrainLeases, EndStream, Forfeit, Invalidate, Purpose, Recall},
    reservation::{ReleaseSlot, ReservedStream, Settle},
};
use crate::{
    ids::{ReceiptId, UsageId},
    model::{Credit, LostLease, Outcome},
    ports::{SlotGrant, StreamSlot},
    quota::{
        book::{BookDecision, DecisionTime, Freshness, Grant, QuotaBook},
        node_epoch::LeaseTime,
        refill_queue::RefillQueue,
        refusal::Refusal,
    },
};

/// How often expired entries are dropped, and how many at a time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_STEP: usize = 4096;

pub(crate) struct QuotaShard {
    settings: QuotaSettings,
    deps: QuotaDeps,
    link: Arc<Link>,
    book: QuotaBook,
    /// Questions that wait for a receipt, in order of arrival; bounded by the permits they hold.
    waiting: HashMap<ReceiptId, VecDeque<Acquire>>,
    /// Requests to the ledger, until their answer is known.
    refills: RefillQueue,
    round_trips: usize,
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
    pub(super) fn new(settings: QuotaSettings, deps: QuotaDeps, link: Arc<Link>) -> Self {
        Self {
            book: QuotaBook::new(settings.book),
            settings,
            deps,
            link,
            waiting: HashMap::new(),
            refills: RefillQueue::default(),
            round_trips: 0,
            counted_unanswered: 0,
            recalls: Recalls::default(),
            unanswered: HashSet::new(),
            slots: HeldSlots::default(),
            drains: Vec::new(),
            counted: 0,
        }
    }

    fn moment(&self) -> DecisionTime {
        let monotonic = self.deps.clock.monotonic();
        // Read this before the epoch: in the other order, a fence and a new epoch in between would make leases of the
        // old epoch look valid.
        let may_spend = self.deps.epoch_state.may_spend(monotonic);
        DecisionTime { wall: self.deps.clock.now(), monotonic, epoch: self.deps.epoch_state.current().epoch, may_spend }
    }

    fn decide(&mut self, question: Acquire, ctx: &mut Context<Self>) {
        let moment = self.moment();
        // Other questions wait for this receipt: queue behind them to keep the order.
        if let Some(queue) = self.waiting.get_mut(&question.ask.receipt_id) {
            queue.push_back(question);
            return;
        }
        match self.book.acquire(&question.ask, &moment, Freshness::Required) {
            BookDecision::Refill(want) => {
                self.link.counters.misses.fetch_add(1, Relaxed);
                if self.refills.len() >= self.largest_demand() && !self.refills.is_asked(want.receipt_id) {
                    return self.refuse(question.purpose, Refusal::Unavailable { retry_after: Duration::from_secs(1) });
                }
                self.waiting.entry(want.receipt_id).or_default().push_back(question);
                self.want(want, ctx);
            }
            decision => {
                self.link.counters.hits.fetch_add(1, Relaxed);
                self.conclude(question, decision, ctx);
            }
        }
    }

    /// The most receipts in requests to the ledger: as many as there may be questions, and in addition as many lost
    /// answers as the book may hold receipts.
    fn largest_demand(&self) -> usize {
        self.settings.book.entries.saturating_add(self.settings.queue as usize)
    }

    /// Answers a question with a decision other than a refill.
    fn conclude(&mut self, question: Acquire, decision: BookDecision, ctx: &mut Context<Self>) {
        match decision {
            BookDecision::Granted(grant) => self.grant(question, grant, ctx),
            BookDecision::Refused(refusal) => self.refuse(question.purpose, refusal),
            BookDecision::Refill(_) => {
                self.refuse(question.purpose, Refusal::Unavailable { retry_after: Duration::from_secs(1) });
            }
        }
    }

    fn refuse(&self, purpose: Purpose, refusal: Refusal) {
        self.link.counters.refused.fetch_add(1, Relaxed);
        // The caller may have left; a refusal obliges neither side.
        match purpose {
            Purpose::Inspect { reply } => drop(reply.send(Err(refusal))),
            Purpose::Stream { reply, .. } => drop(reply.send(Err(refusal))),
        }
    }

    fn grant(&mut self, question: Acquire, grant: Grant, ctx: &mut Context<Self>) {
        let Acquire { ask, purpose, .. } = question;
        let (stream, session, mut row_permit, reply) = match purpose {
            Purpose::Inspect { reply } => {
                let _ = reply.send(Ok(grant));
                return;
            }
            Purpose::Stream { stream, session, row_permit, reply } => (stream, session, row_permit, reply),
        };
        self.link.counters.granted.fetch_add(1, Relaxed);
        let limit = grant.view.policy.max_concurrent_streams;
        row_permit.epoch = grant.lease_epoch.map(|epoch| self.deps.epoch_state.works().begin_work(epoch));
        let held = ReservedStream {
            receipt_id: ask.receipt_id,
            stream,
            session: session.named(),
            leased: grant.leased,
            lease_epoch: grant.lease_epoch,
            started_at: grant.started_at,
            slot: None,
            content_hash: ask.content_hash,
            row_permit,
        };
        // From here on the guard owns the obligation: if the answer cannot be delivered, the guard undoes the reservation.
        let active = grant.active;
        let lease_time = self.lease_time(&grant);
        let reservation = Reservation::new(grant, held, Arc::clone(&self.link)).within(lease_time);
        let Some(limit) = limit else {
            let _ = reply.send(Ok(reservation));
            return;
        };
        let request = SlotRequest {
            slots: Arc::clone(&self.deps.slots),
            bus: Arc::clone(&self.deps.bus),
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

    /// The lease time of a stream. Where lost leases are charged, everything that the stream may still send is charged, so it
    /// may go on while this node does not know whether its epoch is over.
    fn lease_time(&self, grant: &Grant) -> Option<LeaseTime> {
        let (epoch_state, clock) = (Arc::clone(&self.deps.epoch_state), Arc::clone(&self.deps.clock));
        let is_released = self.settings.lost_lease == LostLease::Release;
        Some(LeaseTime { epoch_state, clock, epoch: grant.lease_epoch?, is_released })
    }

    /// Cuts the streams that took credit from a lease, including those that wait for a slow client.
    fn cut_lost_streams(&mut self) {
        let streams = self.book.cut_leased();
        if streams > 0 {
            tracing::warn!(streams, "streams are cut: the leases that admitted them are lost");
        }
    }

    fn free_slot(&mut self, stream: UsageId, ctx: &mut Context<Self>) {
        let Some(slot) = self.slots.free(stream) else { return };
        let slots = Arc::clone(&self.deps.slots);
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

    fn add_progress(&self, held: &ReservedStream, bytes: u64, position: u64, ctx: &mut Context<Self>) {
        let Some(session) = held.session else { return };
        let (sessions, now, ttl) = (Arc::clone(&self.deps.sessions), self.deps.clock.now(), self.settings.session_ttl);
        let added = async move {
            if let Err(error) = sessions.add_progress(session, bytes, position, now, ttl).await {
                tracing::debug!(%error, "a session's progress was not recorded; the stream is not affected");
            }
        };
        ctx.spawn(added.into_actor(self));
    }

    /// Drops expired entries, then sets the timer for the next sweep: passes never overlap.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        self.forget(SWEEP_STEP);
        for id in std::mem::take(&mut self.unanswered) {
            self.reload(id, ctx);
        }
        self.ask_again(ctx);
        let may_be_given_away = self.settings.lost_lease == LostLease::Release;
        if may_be_given_away && !self.deps.epoch_state.may_spend(self.deps.clock.monotonic()) {
            self.cut_lost_streams();
        }
        ctx.run_later(SWEEP_EVERY, Self::sweep);
    }

    fn forget(&mut self, step: usize) {
        for release in self.book.sweep(self.deps.clock.monotonic(), step) {
            self.deps.usage.release(release);
        }
        self.count_entries();
    }

    fn count_unanswered(&mut self) {
        let now = self.refills.unanswered() as u64;
        let before = std::mem::replace(&mut self.counted_unanswered, now);
        self.link.counters.unanswered.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    fn count_entries(&mut self) {
        let before = std::mem::replace(&mut self.counted, self.book.len() as u64);
        self.link.counters.entries.fetch_add(self.counted.wrapping_sub(before), Relaxed);
    }

    /// Gives back all leases, and answers the callers of drains once no refill can bring more.
    fn finish_drain(&mut self) {
        if self.drains.is_empty() {
            return;
        }
        for release in self.book.drain() {
            self.deps.usage.release(release);
        }
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
        let (slots, ttl) = (Arc::clone(&self.deps.slots), self.settings.slot_ttl);
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
            self.link.counters.replaced.fetch_add(1, Relaxed);
            // Nothing leaves a connection that is cut, so the newer stream need not wait for the settlement of this one.
            self.free_slot(stream, ctx);
        }
    }
}

impl Handler<Settle> for QuotaShard {
    type Result = ();

    fn handle(&mut self, Settle { held, ended }: Settle, ctx: &mut Self::Context) {
        if ended.outcome == Outcome::Revoked {
            self.link.counters.revoked.fetch_add(1, Relaxed);
        }
        // Nothing sent and not complete: as if it had never been admitted.
        let delivered = ended.bytes_sent > 0 || matches!(ended.outcome, Outcome::Completed | Outcome::Delegated);
        let sent = if delivered { Credit::new(ended.bytes_sent, 1) } else { Credit::ZERO };
        let release = self.book.settle(held.receipt_id, held.leased, sent, held.lease_epoch, held.started_at);
        self.free_slot(held.stream, ctx);
        if delivered {
            self.add_progress(&held, ended.bytes_sent, ended.position, ctx);
            let row = held.row(ended.bytes_sent, ended.outcome, self.deps.clock.now());
            self.deps.usage.record(row, sent.min(held.leased), held.row_permit);
        } else {
            held.row_permit.spooled.cancel();
        }
        // After the row, so that the lease is settled before its rest goes back.
        if let Some(release) = release {
            self.deps.usage.release(release);
        }
        // Last, so that a reader who sees no active stream finds all usage with the batcher.
        self.link.counters.settled();
    }
}

impl Handler<CatchUp> for QuotaShard {
    type Result = ();

    fn handle(&mut self, CatchUp { reply }: CatchUp, _: &mut Self::Context) {
        let _ = reply.send(());
    }
}

impl Handler<Invalidate> for QuotaShard {
    type Result = ();

    fn handle(&mut self, invalidate: Invalidate, ctx: &mut Self::Context) {
        match invalidate {
            Invalidate::Receipt(id) => {
                self.refills.outdate(id);
                if self.book.invalidate(id) {
                    self.reload(id, ctx);
                }
            }
            Invalidate::QuotaPolicy(name) => {
                self.refills.outdate_all();
                let running = self.book.invalidate_quota_policy(name.as_deref());
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
        let node = self.deps.epoch_state.current();
        self.book.forfeit(node.epoch);
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
