//! Recalls: how a shard obtains credit that is unused but leased.
//!
//! With many instances the last of a quota is spread over all of them. Before a stream is refused for lack of unused
//! credit, the other instances are asked to give back their idle leases, and leases of lost instances are reclaimed
//! once their time is over. So a quota can be used to its end on any instance. A recall is only a hint: when it is
//! lost, the stream is refused with a short `Retry-After`, and nothing is overspent. Whether other instances hold
//! credit follows from the ledger's reserved amounts, never from a count of instances.
//!
//! **Bound.** One recall of a receipt at a time, with [`WAITS`] tries, while the questions for that receipt wait with
//! their permits. After it, the refusal is repeated from memory for its time to live. One reclaim a second.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::{QuotaShard, ShardState};
use crate::{
    ids::ReceiptId,
    model::Credit,
    ports::{PortResult, Tag},
};

/// How long other instances have to settle the leases they give back, per try: long enough for a message, a batch and
/// its transaction on a quiet system, on a busy one, and on one that is slow to commit.
const WAITS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(200)];

/// The shortest time between two searches for lost instances.
const RECLAIM_EVERY: Duration = Duration::from_secs(1);

/// Leases reclaimed in one step.
const RECLAIM_STEP: u32 = 500;

/// Recalls in progress.
#[derive(Default)]
pub(super) struct Recalls {
    tries: HashMap<ReceiptId, usize>,
    reclaimed_at: Option<Instant>,
}

impl Recalls {
    pub(super) fn end(&mut self, id: ReceiptId) {
        self.tries.remove(&id);
    }
}

impl QuotaShard {
    /// Whether leased credit that would cover `need` may come back.
    pub(super) fn may_recall(&self, state: &ShardState, id: ReceiptId, need: Credit) -> bool {
        let tries = self.recalls.tries.get(&id).copied().unwrap_or_default();
        tries < WAITS.len() && state.book.is_held_back(id, need)
    }

    /// Recalls idle credit, then asks again for all questions that wait for the receipt.
    pub(super) fn recall(&mut self, id: ReceiptId, refused: Option<Credit>, ctx: &mut Context<Self>) {
        let tries = self.recalls.tries.entry(id).or_default();
        let wait = WAITS[*tries];
        *tries += 1;
        let is_first = *tries == 1;
        let elsewhere = self.state().book.is_leased_elsewhere(id);
        let reclaim = self.reclaim();
        if elsewhere {
            self.handle.counters.recalls.fetch_add(1, Relaxed);
            // The reserved credit may be this instance's own unsettled usage.
            self.handle.deps.usage.flush_now();
        }
        let (bus, changes) = (Arc::clone(&self.handle.deps.bus), Arc::clone(&self.handle.deps.changes));
        let room = async move {
            let reclaimed = match reclaim {
                Some(reclaim) => reclaim.await.unwrap_or_default(),
                None => 0,
            };
            if !elsewhere {
                return reclaimed > 0;
            }
            let told = bus.reaches_others() && bus.invalidate(&[Tag::Recall(id)]).await.is_ok();
            // Other instances read the log now and then: perhaps too late for this stream, but in time for the next.
            if !told
                && is_first
                && let Err(error) = changes.note_changes(&[Tag::Recall(id)]).await
            {
                tracing::debug!(%error, "idle credit was not recalled from other nodes; the stream may be refused although it exists");
                return reclaimed > 0;
            }
            tokio::time::sleep(wait).await;
            true
        };
        ctx.spawn(room.into_actor(self).map(move |hopeful, shard, ctx| {
            if !hopeful {
                shard.recalls.tries.insert(id, WAITS.len());
            }
            shard.retry(id, refused.filter(|_| !hopeful), ctx);
        }));
    }

    /// Reclaims leases of lost instances, unless that was tried a moment ago.
    fn reclaim(&mut self) -> Option<impl Future<Output = PortResult<u64>> + 'static> {
        let now = self.handle.deps.clock.monotonic();
        let last = self.recalls.reclaimed_at;
        if last.is_some_and(|at| now.saturating_duration_since(at) < RECLAIM_EVERY) {
            return None;
        }
        self.recalls.reclaimed_at = Some(now);
        let ledger = Arc::clone(&self.handle.deps.ledger);
        let (by, silent) = (self.handle.deps.epoch_state.current(), self.handle.deps.epoch_state.silent(now));
        let (mode, wall) = (self.settings.lost_lease, self.handle.deps.clock.now());
        Some(async move { Ok(ledger.reclaim(by, &silent, mode, wall, RECLAIM_STEP).await?.leases) })
    }

    /// Gives back the idle lease of a receipt at once, unless this shard itself recalls it.
    pub(super) fn give_back(&mut self, id: ReceiptId) {
        if !self.recalls.tries.contains_key(&id) {
            self.hand_back(id);
        }
    }

    pub(super) fn hand_back(&mut self, id: ReceiptId) {
        let idle = self.state().book.recall(id);
        if let Some(release) = idle {
            self.handle.deps.usage.release(release);
            self.handle.deps.usage.flush_now();
        }
    }
}
