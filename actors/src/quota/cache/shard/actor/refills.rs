//! Refills: a shard's requests to the ledger, and the questions that their answers decide.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::QuotaShard;
use crate::{
    ids::ReceiptId,
    model::{Credit, WindowKind},
    ports::{PortError, PortResult, Refill, Want},
    quota::{book::Freshness, cache::shard::Decision, refill_queue::RefillTrip},
};

/// Refills in flight per shard. Two keep a slow round trip from blocking the receipts that come after it; receipts that
/// wait meanwhile go out together.
const MAX_ROUND_TRIPS: usize = 2;

/// Receipts per round trip: keeps one statement and its locks small.
const MAX_WANTS: usize = 128;

impl QuotaShard {
    pub(super) fn want(&mut self, want: Want, ctx: &mut Context<Self>) {
        self.refills.want(want);
        self.pump(ctx);
    }

    /// Sends wanted refills, as far as round trips are free.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        while self.round_trips < MAX_ROUND_TRIPS {
            let (node, now) = (self.handle.deps.epoch_state.current(), self.handle.deps.clock.now());
            let Some(trip) = self.refills.next_trip(node, now, MAX_WANTS) else { break };
            let (ledger, sizing) = (Arc::clone(&self.handle.deps.ledger), self.settings.sizing);
            self.round_trips += 1;
            self.handle.counters.refills.fetch_add(1, Relaxed);
            self.handle.deps.epoch_state.held().asks();
            let asking = async move {
                let answer = ledger.refill(trip.node, &trip.requests, sizing, trip.at).await;
                (trip, answer)
            };
            ctx.spawn(asking.into_actor(self).map(move |(trip, answer), shard, ctx| {
                shard.round_trips -= 1;
                shard.refilled(&trip, answer, ctx);
                // Count first: until a lost request is answered, it may have been granted.
                shard.count_unanswered();
                shard.handle.deps.epoch_state.held().knows();
                shard.pump(ctx);
                shard.finish_drain();
            }));
        }
        self.count_unanswered();
    }

    /// Repeats unanswered requests: one round trip of them, until the ledger answers.
    pub(super) fn ask_again(&mut self, ctx: &mut Context<Self>) {
        self.refills.ask_again(MAX_WANTS);
        self.pump(ctx);
    }

    fn refilled(&mut self, trip: &RefillTrip, answer: PortResult<Vec<Refill>>, ctx: &mut Context<Self>) {
        let refills = match answer {
            Ok(refills) => refills,
            Err(error) => return self.refill_failed(trip, &error, ctx),
        };
        // The ledger answers again: repeat all lost requests.
        self.refills.ask_again(usize::MAX);
        let moment = self.handle.moment();
        for (request, mut refill) in trip.requests.iter().zip(refills) {
            let want = &request.want;
            let id = want.receipt_id;
            let outdated = self.refills.answered(id);
            let reclaimed = trip.node.epoch != moment.epoch;
            if reclaimed {
                // A lease of an epoch that was fenced meanwhile no longer belongs to this node.
                refill.granted = Credit::ZERO;
            }
            let hour_is_over = !refill.windows[WindowKind::Hour.index()].window.contains(moment.wall);
            // The answer to a repeated request may describe the time when it was first sent.
            let unsure = outdated || reclaimed || hour_is_over || request.again;
            self.handle.deps.epoch_state.held().granted(trip.node.epoch, refill.granted);
            let refused = refill.lacking(want).filter(|_| !unsure);
            let (release, must_reload) = {
                let mut state = self.state();
                let release = state.book.apply(id, refill, &moment);
                let is_running = outdated && state.book.invalidate(id);
                (release, is_running && !state.waiting.contains_key(&id))
            };
            if let Some(release) = release {
                self.handle.deps.usage.release(release);
            }
            if must_reload {
                self.reload(id, ctx);
            }
            self.retry(id, refused, ctx);
        }
        // Keep the bound: new entries push out the oldest ones, however fast they come.
        self.forget(moment.monotonic, trip.requests.len() * 2);
    }

    /// Decides again for all questions that wait for a receipt. A question that needs at least the credit that the
    /// ledger has just `refused` is refused too. One that needs less, or that was not part of the request, has to wait
    /// for a refill of its own.
    pub(super) fn retry(&mut self, id: ReceiptId, refused: Option<Credit>, ctx: &mut Context<Self>) {
        loop {
            let mut state = self.handle.state();
            let Some(queue) = state.waiting.get_mut(&id) else { return };
            let Some(question) = queue.pop_front() else {
                // With the last question, so that no other overtakes it.
                state.waiting.remove(&id);
                break;
            };
            if question.is_abandoned(self.handle.deps.clock.monotonic()) {
                continue;
            }
            match self.handle.decide(&mut state, &question.ask, Freshness::Required) {
                Decision::Refill(want) => {
                    let is_refused = refused.is_some_and(|refused| want.need.covers(refused));
                    if is_refused && !self.may_recall(&state, id, want.need) {
                        let refusal = state.book.refuse(&question.ask, &self.handle.moment());
                        drop(state);
                        self.refuse(question.purpose, refusal);
                        // Too little for this stream. Together with other instances' leases it may be enough for a stream
                        // elsewhere.
                        self.hand_back(id);
                        continue;
                    }
                    state.waiting.entry(id).or_default().push_front(question);
                    drop(state);
                    return if is_refused { self.recall(id, refused, ctx) } else { self.want(want, ctx) };
                }
                Decision::Decided(decision) => {
                    drop(state);
                    self.conclude(question, decision, ctx);
                }
            }
        }
        self.recalls.end(id);
    }

    /// The ledger did not answer: entries in memory decide, at any age. Requests that it may have granted are repeated.
    fn refill_failed(&mut self, trip: &RefillTrip, error: &PortError, ctx: &mut Context<Self>) {
        self.handle.counters.refill_errors.fetch_add(1, Relaxed);
        if matches!(error, PortError::Fenced) {
            self.handle.deps.fenced.notify_one();
        }
        // For an ended epoch nothing will be granted, and earlier grants are reclaimed with it.
        let is_over = trip.node != self.handle.deps.epoch_state.current();
        // The ledger also refuses an epoch that is only late, and the next heartbeat revives it: then an earlier statement may have been
        // granted, and a late one may still be. If the epoch was fenced, the next one forgets the request.
        let is_rejected = matches!(error, PortError::Rejected { .. });
        if let Some(left_out) = self.lines.spend(self.handle.deps.clock.monotonic()) {
            tracing::warn!(%error, receipts = trip.requests.len(), left_out, "the ledger did not answer a refill; entries and leases in memory decide");
        }
        for request in &trip.requests {
            let id = request.want.receipt_id;
            if is_over || (is_rejected && !request.again) {
                self.refills.answered(id);
            } else {
                self.refills.lost(request);
            }
            let questions = self.state().waiting.remove(&id).unwrap_or_default();
            for question in questions {
                let decision = self.handle.decide(&mut self.state(), &question.ask, Freshness::AnyAge);
                self.conclude(question, decision.or_unavailable(), ctx);
            }
            let must_learn = self.state().book.must_learn(id);
            if must_learn {
                self.unanswered.insert(id);
            }
        }
    }

    /// Finds out whether the running streams of a receipt may go on.
    pub(super) fn reload(&mut self, id: ReceiptId, ctx: &mut Context<Self>) {
        let want = self.state().book.reload(id);
        if let Some(want) = want {
            self.want(want, ctx);
        }
    }
}
