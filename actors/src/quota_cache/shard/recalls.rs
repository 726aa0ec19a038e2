//! Recalls: what a shard does when a receipt has credit left, but leases hold all of it.
//!
//! With many instances the end of a quota lies in parts on all of them. Before a stream is refused for credit that nobody has
//! used, the other instances are asked to give back what lies idle with them, and what lost instances held is reclaimed, as
//! soon as their time is over. So a quota is used to its end wherever the requests come in. A recall is a hint: when it is
//! lost, the stream is refused with a short `Retry-After`, and nothing is overspent. Whether others hold anything is told by the ledger,
//! by what it has as reserved, and never by how many instances somebody has counted.
//!
//! **Bound.** One recall of a receipt at a time, [`WAITS`] tries, while the questions for that receipt wait with their permits;
//! after it, the refusal is repeated from memory for its time to live. One reclaim a second.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::QuotaShard;
use crate::{
    ids::ReceiptId,
    model::Credit,
    ports::{PortResult, Tag},
};

/// How long others have to settle what they give back, try by try: a message, a batch and its transaction on a quiet system,
/// on a busy one, and on one that is slow to commit.
const WAITS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(200)];

/// Lost instances are looked for no more often than this.
const RECLAIM_EVERY: Duration = Duration::from_secs(1);

/// Leases reclaimed in one step.
const RECLAIM_STEP: u32 = 500;

/// Recalls under way.
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
    /// Whether credit that would cover `need` may come back from elsewhere.
    pub(super) fn may_recall(&self, id: ReceiptId, need: Credit) -> bool {
        let tries = self.recalls.tries.get(&id).copied().unwrap_or_default();
        tries < WAITS.len() && self.book.is_held_back(id, need)
    }

    /// Calls idle credit back, and asks again for everybody who waits for the receipt.
    pub(super) fn recall(&mut self, id: ReceiptId, refused: Option<Credit>, ctx: &mut Context<Self>) {
        let tries = self.recalls.tries.entry(id).or_default();
        let wait = WAITS[*tries];
        *tries += 1;
        let is_first = *tries == 1;
        let elsewhere = self.book.is_held_elsewhere(id);
        let reclaim = self.reclaim();
        if elsewhere {
            self.link.counters.recalls.fetch_add(1, Relaxed);
            // It may be no more than what has not been settled here.
            self.deps.usage.hurry();
        }
        let (shared, changes) = (Arc::clone(&self.deps.shared), Arc::clone(&self.deps.changes));
        let room = async move {
            let reclaimed = match reclaim {
                Some(reclaim) => reclaim.await.unwrap_or_default(),
                None => 0,
            };
            if !elsewhere {
                return reclaimed > 0;
            }
            let told =
                if shared.reaches_others() { shared.invalidate(&[Tag::Recall(id)]).await.is_ok() } else { false };
            // They read the log now and then: too late for this stream perhaps, and in time for the next.
            if !told
                && is_first
                && let Err(error) = changes.note_changes(&[Tag::Recall(id)]).await
            {
                tracing::debug!(%error, "idle credit was not called back");
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

    /// Takes back what lost instances hold, unless that was tried a moment ago.
    fn reclaim(&mut self) -> Option<impl Future<Output = PortResult<u64>> + 'static> {
        let now = self.deps.clock.monotonic();
        let last = self.recalls.reclaimed_at;
        if last.is_some_and(|at| now.saturating_duration_since(at) < RECLAIM_EVERY) {
            return None;
        }
        self.recalls.reclaimed_at = Some(now);
        let (ledger, by) = (Arc::clone(&self.deps.ledger), self.deps.life.current());
        let (mode, wall) = (self.settings.lost_lease, self.deps.clock.now());
        Some(async move { Ok(ledger.reclaim(by, mode, wall, RECLAIM_STEP).await?.leases) })
    }

    /// Gives back what lies idle of a receipt, at once, unless this shard is the one that asked for it.
    pub(super) fn give_back(&mut self, id: ReceiptId) {
        if !self.recalls.tries.contains_key(&id) {
            self.hand_back(id);
        }
    }

    pub(super) fn hand_back(&mut self, id: ReceiptId) {
        if let Some(release) = self.book.recall(id) {
            self.deps.usage.release(release);
            self.deps.usage.hurry();
        }
    }
}
