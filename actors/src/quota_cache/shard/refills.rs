//! Refills: what a shard asks the ledger for, and whom the answers let in.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::QuotaShard;
use crate::{
    ids::ReceiptId,
    model::{Credit, NodeEpoch, WindowKind},
    ports::{PortError, PortResult, Refill, Want},
    quota_book::{Decision, Freshness},
};

/// Refills under way per shard. Two keep a slow round trip from blocking the receipts that come after it; what waits
/// meanwhile goes out together.
const MAX_ROUND_TRIPS: usize = 2;

/// Receipts per round trip: keeps one statement and its locks small.
const MAX_WANTS: usize = 128;

impl QuotaShard {
    pub(super) fn want(&mut self, want: Want, ctx: &mut Context<Self>) {
        if self.asked.contains_key(&want.receipt_id) {
            return;
        }
        self.asked.insert(want.receipt_id, false);
        self.wants.push(want);
        self.pump(ctx);
    }

    /// Sends what is wanted, as far as round trips are free.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        while self.round_trips < MAX_ROUND_TRIPS && !self.wants.is_empty() {
            let wants: Vec<Want> = self.wants.drain(..self.wants.len().min(MAX_WANTS)).collect();
            let ledger = Arc::clone(&self.deps.ledger);
            let (node, sizing, now) = (self.deps.life.current(), self.settings.sizing, self.deps.clock.now());
            self.round_trips += 1;
            self.link.counters.refills.fetch_add(1, Relaxed);
            let trip = async move {
                let answer = ledger.refill(node, &wants, sizing, now).await;
                (wants, answer)
            };
            ctx.spawn(trip.into_actor(self).map(move |(wants, answer), shard, ctx| {
                shard.round_trips -= 1;
                shard.refilled(node, &wants, answer, ctx);
                shard.pump(ctx);
                shard.finish_drain();
            }));
        }
    }

    fn refilled(&mut self, node: NodeEpoch, wants: &[Want], answer: PortResult<Vec<Refill>>, ctx: &mut Context<Self>) {
        let refills = match answer {
            Ok(refills) => refills,
            Err(error) => return self.refill_failed(wants, &error, ctx),
        };
        let moment = self.moment();
        for (want, mut refill) in wants.iter().zip(refills) {
            let id = want.receipt_id;
            let outdated = self.asked.remove(&id).unwrap_or_default();
            let reclaimed = node.epoch != moment.epoch;
            if reclaimed {
                // A lease of an epoch that was fenced meanwhile is not this node's any more.
                refill.granted = Credit::ZERO;
            }
            let hour_is_over = !refill.windows[WindowKind::Hour.index()].window.contains(moment.wall);
            let refused = refill.lacking(want).filter(|_| !(outdated || reclaimed || hour_is_over));
            if let Some(release) = self.book.apply(id, refill, &moment) {
                self.deps.usage.release(release);
            }
            if outdated && self.book.invalidate(id) && !self.waiting.contains_key(&id) {
                self.reload(id, ctx);
            }
            self.retry(id, refused, ctx);
        }
        // What came in pushes out what is oldest, however fast it comes.
        self.forget(wants.len() * 2);
    }

    /// Asks again for everybody who waits for a receipt. Whoever lacks no less than what the ledger has just `refused` is
    /// refused too; who lacks less, or what was not asked for, has to wait for a refill of its own.
    pub(super) fn retry(&mut self, id: ReceiptId, refused: Option<Credit>, ctx: &mut Context<Self>) {
        let Some(mut queue) = self.waiting.remove(&id) else { return };
        let moment = self.moment();
        while let Some(question) = queue.pop_front() {
            if question.is_abandoned(moment.monotonic) {
                continue;
            }
            match self.book.acquire(&question.ask, &moment, Freshness::Required) {
                Decision::Refill(want)
                    if refused.is_some_and(|refused| want.need.covers(refused)) && self.may_recall(id, want.need) =>
                {
                    queue.push_front(question);
                    self.waiting.insert(id, queue);
                    self.recall(id, refused, ctx);
                    return;
                }
                Decision::Refill(want) if refused.is_some_and(|refused| want.need.covers(refused)) => {
                    let refusal = self.book.refuse(&question.ask, &moment);
                    self.refuse(question.purpose, refusal);
                    // Too little for this stream: together with what others hold it may be enough for one elsewhere.
                    self.hand_back(id);
                }
                Decision::Refill(want) => {
                    queue.push_front(question);
                    self.waiting.insert(id, queue);
                    self.want(want, ctx);
                    return;
                }
                decision => self.conclude(question, decision, ctx),
            }
        }
        self.recalls.end(id);
    }

    /// The ledger did not answer: what is in memory decides, whatever its age.
    fn refill_failed(&mut self, wants: &[Want], error: &PortError, ctx: &mut Context<Self>) {
        self.link.counters.refill_errors.fetch_add(1, Relaxed);
        if matches!(error, PortError::Fenced) {
            self.deps.fenced.notify_one();
        }
        tracing::warn!(%error, receipts = wants.len(), "the ledger did not refill");
        let moment = self.moment();
        for want in wants {
            self.asked.remove(&want.receipt_id);
            for question in self.waiting.remove(&want.receipt_id).unwrap_or_default() {
                let decision = self.book.acquire(&question.ask, &moment, Freshness::AnyAge);
                self.conclude(question, decision, ctx);
            }
            if self.book.must_learn(want.receipt_id) {
                self.unanswered.insert(want.receipt_id);
            }
        }
    }

    /// Learns whether the running streams of a receipt may go on.
    pub(super) fn reload(&mut self, id: ReceiptId, ctx: &mut Context<Self>) {
        if let Some(want) = self.book.reload(id) {
            self.want(want, ctx);
        }
    }
}
