//! The allowances of all subjects, and the round trips that fill them.
//!
//! While a question to the store about a subject is in flight, all other requests of that subject wait for its answer.
//! The next question asks for all that wait. So there are at most as many round trips as requests, and far fewer under
//! load. A question runs in a task of its own, so a client that leaves does not cancel the answer for others.
//!
//! **Bound.** The subjects, over all shards. When a shard is full, entries without effect go first. After those, permits are
//! dropped, which makes limits tighter for a window and never wider. Waiting requests are bounded by the connections.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::{FutureExt as _, future::Shared};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Sharing,
    allowance::{Allowance, SPARE_PARTS},
};
use crate::{
    clock::Clock,
    model::{Subject, rate_window::CountRequest},
    ports::{RateGrant, RateLimits},
};

/// As many as the counters have, for the same reason.
const SHARDS: usize = 64;

/// Allowances over a store.
pub(super) struct SharedLimits {
    table: Arc<Table>,
    limits: Arc<dyn RateLimits>,
    instances: Arc<dyn Fn() -> u32 + Send + Sync>,
    io: Handle,
}

struct Table {
    clock: Arc<dyn Clock>,
    /// Subjects that a shard keeps.
    room: usize,
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<Subject, SubjectEntry>>]>,
}

struct SubjectEntry {
    allowance: Allowance,
    /// Requests that wait for an answer of the store.
    waiting: u32,
    trip: Option<PendingTake>,
}

/// A question in flight: whether the store answered, shared by all requests that wait.
type PendingTake = Shared<oneshot::Receiver<bool>>;

impl SubjectEntry {
    const fn new(now: Instant) -> Self {
        Self { allowance: Allowance::none(now), waiting: 0, trip: None }
    }

    const fn is_in_use(&self) -> bool {
        self.waiting > 0 || self.trip.is_some()
    }
}

impl SharedLimits {
    pub(super) fn new(clock: Arc<dyn Clock>, subjects: usize, sharing: Sharing) -> Self {
        let Sharing { limits, instances, io } = sharing;
        let table = Table {
            clock,
            room: subjects.div_ceil(SHARDS).max(2),
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        };
        Self { table: Arc::new(table), limits, instances, io }
    }

    pub(super) fn instances(&self) -> u32 {
        (self.instances)().max(1)
    }

    pub(super) fn subjects(&self) -> usize {
        self.table.shards.iter().map(|shard| held(shard).len()).sum()
    }

    /// Counts one request of a subject. `None` when the store did not answer.
    pub(super) async fn take(&self, subject: &Subject, limit: u32) -> Option<RateGrant> {
        // A place is given back under the shard's lock, so it must outlive the lock's guard: it is declared first.
        let mut place = None;
        loop {
            let trip = {
                let mut shard = self.table.shard(subject);
                let now = self.table.clock.monotonic();
                let entry = self.table.entry(&mut shard, subject, now);
                if let Some(grant) = entry.allowance.spend(now) {
                    return Some(grant);
                }
                if place.is_none() {
                    entry.waiting += 1;
                    place = Some(WaitingRequest { table: &self.table, subject });
                }
                match &entry.trip {
                    // A finished trip that is still here ended without an answer.
                    Some(trip) if trip.peek().is_none() => trip.clone(),
                    _ => entry.trip.insert(self.ask_store(subject, limit, entry.waiting)).clone(),
                }
            };
            if trip.await != Ok(true) {
                return None;
            }
        }
    }

    /// Asks the store for all requests that wait.
    fn ask_store(&self, subject: &Subject, limit: u32, need: u32) -> PendingTake {
        let (tell, told) = oneshot::channel();
        let (table, limits, subject) = (Arc::clone(&self.table), Arc::clone(&self.limits), *subject);
        let ask = CountRequest { limit, need, spare_parts: self.instances().saturating_mul(SPARE_PARTS) };
        self.io.spawn(async move {
            let asked = table.clock.monotonic();
            let answer = limits.take(&subject, ask).await;
            if let Some(entry) = table.shard(&subject).get_mut(&subject) {
                entry.trip = None;
                if let Ok(grant) = &answer {
                    entry.allowance.deposit(*grant, asked);
                }
            }
            // The send fails when all of them have left.
            let _ = tell.send(answer.is_ok());
        });
        told.shared()
    }
}

impl Table {
    fn shard(&self, subject: &Subject) -> MutexGuard<'_, HashMap<Subject, SubjectEntry>> {
        held(&self.shards[self.hasher.hash_one(subject) as usize % SHARDS])
    }

    fn entry<'a>(
        &self,
        shard: &'a mut HashMap<Subject, SubjectEntry>,
        subject: &Subject,
        now: Instant,
    ) -> &'a mut SubjectEntry {
        if shard.len() >= self.room && !shard.contains_key(subject) {
            make_room(shard, self.room / 2, now);
        }
        shard.entry(*subject).or_insert_with(|| SubjectEntry::new(now))
    }
}

/// Empties half of a shard, as far as its entries are not in use.
fn make_room(shard: &mut HashMap<Subject, SubjectEntry>, half: usize, now: Instant) {
    shard.retain(|_, entry| entry.is_in_use() || !entry.allowance.is_idle(now));
    let mut too_many = shard.len().saturating_sub(half);
    shard.retain(|_, entry| {
        let goes = too_many > 0 && !entry.is_in_use();
        too_many -= usize::from(goes);
        !goes
    });
}

/// Every change under the lock is complete before any code can panic.
fn held(shard: &Mutex<HashMap<Subject, SubjectEntry>>) -> MutexGuard<'_, HashMap<Subject, SubjectEntry>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One waiting request. It is dropped when its client leaves, too.
struct WaitingRequest<'a> {
    table: &'a Table,
    subject: &'a Subject,
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.table.shard(self.subject).get_mut(self.subject) {
            entry.waiting = entry.waiting.saturating_sub(1);
        }
    }
}
