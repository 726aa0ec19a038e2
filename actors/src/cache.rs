//! Cache-aside in two tiers: decoded values in this process, then encoded values in a store that all instances share,
//! then a load. For data that is read often and changes seldom. Never for balances: the ledger alone decides about
//! money.
//!
//! # How to use it
//! ```ignore
//! let tags = [CacheTag::LISTINGS];                                       // everything whose change must show at once
//! let page: Option<Arc<Page>> = cache.get(CacheName::Listings, &question, &tags, {
//!     let catalog = Arc::clone(&catalog);                                // the load may outlive its caller
//!     move || async move { catalog.search(question).await.map(Some) }    // `None` is remembered for a short time
//! }).await?;
//! ```
//! The writer of a change calls [`TieredCache::changed`] between its commit and its answer. [`CacheTag::reached_by`] is
//! the only place that says which tags a change reaches. The key must contain everything that the load depends on.
//!
//! # What holds
//! - **No read returns a value older than the last invalidation that had ended on its instance when the read began.**
//!   In memory, a value carries the number of the last invalidation before its load ([`generations`]); in the shared
//!   tier it carries the versions of its tags ([`SharedCache`]). So neither a load that raced an invalidation nor a
//!   request that joins it returns an old value.
//! - **Correctness depends on no message.** An instance that [hears](TieredCache::heard) of a change, by a message or
//!   from the log of changes, drops its entries in memory at once, stops asking the shared tier about these tags, and
//!   invalidates them there itself, because the instance that made the change may have died first. A tag that cannot be
//!   invalidated there now is owed until it can be ([`debts`]). A shared tier that restarted may hold an older state,
//!   so it is invalidated as a whole.
//! - **One load per key.** On one instance all requests for a key share its load. The load runs in a task of its own,
//!   so a client that leaves does not fail the others. Across instances a load takes a short lock. An instance that
//!   does not get the lock waits a little for the value and then loads it itself. A lock never causes an error.
//! - A value past its time to live is served for `stale` longer, while one refresh runs. Times to live are shortened at
//!   random by up to a tenth, so that values loaded together do not expire together. That an object does not exist is
//!   remembered for `negative_ttl`, in memory alone: guessed names must not fill a store that all instances share.
//! - **When the shared tier fails**, reads use memory alone, without an error and without a wait. One failed call is
//!   enough; a background task asks until the tier answers again. If one master of a cluster is lost, the whole tier
//!   counts as lost until its replica has taken over.
//!
//! # Bounds
//! Memory is bounded by weight. Other bounds: invalidations remembered one by one ([`generations`]), owed tags
//! ([`debts`]), and concurrent loads ([`LOADS`]). Beyond [`LOADS`] a miss is refused as unavailable, and a refresh is
//! skipped.
//!
//! # Beside it
//! [`hot_keys`] counts what is used most. Adapters put this cache before the ports whose answers are only shown.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;

mod counters;
mod debts;
mod fill;
mod flights;
mod generations;
pub mod hot_keys;
mod memory;

pub use self::{
    counters::{CacheCounters, TierCounters, TieredCounters},
    fill::LOCK_TTL,
};
use self::{
    debts::Debts,
    fill::Fill,
    flights::{Arrival, Flights},
    generations::Generations,
    memory::{CacheEntry, MemoryTier, Value},
};
use crate::{
    clock::Clock,
    flow::admission::{Admission, AdmissionSnapshot},
    ports::{CacheName, CacheTag, EntryKey, KeyPattern, PortError, PortResult, SharedCache, Tag},
};

/// Concurrent loads, over all caches: many more than a connection pool serves at once, and few enough that the last one
/// does not wait for long.
const LOADS: u32 = 1024;

/// How long entries live, for each cache. Zero turns a cache off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheTtls {
    pub assets: Duration,
    pub listings: Duration,
    pub lineage: Duration,
    pub policies: Duration,
    pub receipts: Duration,
    pub identities: Duration,
}

impl CacheTtls {
    pub const fn of(&self, cache: CacheName) -> Duration {
        match cache {
            CacheName::Assets => self.assets,
            CacheName::Listings => self.listings,
            CacheName::Lineage => self.lineage,
            CacheName::Policies => self.policies,
            CacheName::Receipts => self.receipts,
            CacheName::Identities => self.identities,
        }
    }

    /// The longest time to live.
    pub fn longest(&self) -> Duration {
        CacheName::ALL.into_iter().map(|cache| self.of(cache)).max().unwrap_or_default()
    }
}

/// Bounds and times of the caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TieredSettings {
    /// Bytes in this process, over all caches.
    pub memory: u64,
    pub ttls: CacheTtls,
    /// How long a value is served past its time to live, while it is refreshed.
    pub stale: Duration,
    /// How long the cache remembers that an object does not exist.
    pub negative_ttl: Duration,
    /// How long to wait for a load that another instance has begun.
    pub patience: Duration,
}

/// Dependencies of the caches.
pub struct TieredDeps {
    /// `None`: this instance has no shared tier.
    pub shared: Option<Arc<dyn SharedCache>>,
    pub clock: Arc<dyn Clock>,
    /// Where loads run.
    pub io: Handle,
}

/// The caches of one instance. A clone is another handle to them.
#[derive(Clone)]
pub struct TieredCache {
    core: Arc<Core>,
}

struct Core {
    settings: TieredSettings,
    shared: Option<Arc<dyn SharedCache>>,
    clock: Arc<dyn Clock>,
    io: Handle,
    memory: MemoryTier,
    generations: Generations,
    flights: Flights,
    debts: Arc<Debts>,
    loads: Admission,
    counters: Arc<TieredCounters>,
}

/// The load of a value, and the function that says how long the loaded value is good for.
type LoadSpec<T, L> = (fn(&T) -> Duration, L);

/// The state of a key in memory.
enum InMemory {
    Fresh(Value),
    Stale(CacheEntry),
    Nothing,
}

impl TieredCache {
    pub fn new(settings: TieredSettings, deps: TieredDeps) -> Self {
        let TieredDeps { shared, clock, io } = deps;
        let counters = Arc::<TieredCounters>::default();
        let core = Arc::new(Core {
            memory: MemoryTier::new(settings.memory, Arc::clone(&counters)),
            settings,
            debts: Arc::default(),
            shared,
            clock,
            generations: Generations::new(),
            flights: Flights::default(),
            loads: Admission::new("cache_loads", LOADS),
            counters,
            io,
        });
        if let Some(shared) = &core.shared {
            core.io.spawn(debts::settle(Arc::downgrade(&core), Arc::clone(&core.debts), Arc::clone(shared)));
        }
        Self { core }
    }

    /// The value of a key, from the nearest tier that has it, or loaded. `None` when the object does not exist.
    ///
    /// A key must always be requested with the same type and the same tags.
    ///
    /// # Errors
    /// The load's own error, shared by all requests that waited for it; `Unavailable` when too many loads are under
    /// way.
    pub async fn get<T, L, F>(
        &self,
        cache: CacheName,
        id: &str,
        tags: &[CacheTag],
        load: L,
    ) -> PortResult<Option<Arc<T>>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = PortResult<Option<T>>> + Send + 'static,
    {
        self.get_with_ttl(cache, id, tags, |_| Duration::MAX, load).await
    }

    /// Like [`get`](Self::get), for values with a time to live of their own. The cache's time to live is the upper
    /// bound.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with_ttl<T, L, F>(
        &self,
        cache: CacheName,
        id: &str,
        tags: &[CacheTag],
        good_for: fn(&T) -> Duration,
        load: L,
    ) -> PortResult<Option<Arc<T>>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = PortResult<Option<T>>> + Send + 'static,
    {
        let core = &self.core;
        if core.settings.ttls.of(cache).is_zero() {
            core.counters.of(cache).loads.fetch_add(1, Relaxed);
            return Ok(load().await?.map(Arc::new));
        }
        let key = EntryKey { cache, id: id.into() };
        let counters = core.counters.of(cache);
        let held = core.in_memory(&key, tags);
        counters.memory.found(!matches!(held, InMemory::Nothing));
        match held {
            InMemory::Fresh(value) => typed(value),
            InMemory::Stale(entry) => {
                counters.stale.fetch_add(1, Relaxed);
                let value = entry.value.clone();
                self.refresh(key, tags, entry, (good_for, load));
                typed(value)
            }
            InMemory::Nothing => typed(self.await_load(key, tags, (good_for, load)).await?),
        }
    }

    /// Joins the load that is under way for this key, or starts one.
    async fn await_load<T, L, F>(&self, key: EntryKey, tags: &[CacheTag], load: LoadSpec<T, L>) -> PortResult<Value>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = PortResult<Option<T>>> + Send + 'static,
    {
        let core = &self.core;
        let joins = |born| core.generations.is_current(born, tags);
        // Look again: a load may have ended in between. A load stores its value before it ends.
        let arrived = || match core.in_memory(&key, tags) {
            InMemory::Fresh(value) => Some(value),
            InMemory::Stale(entry) => Some(entry.value),
            InMemory::Nothing => None,
        };
        let mut ticket = match core.flights.board(&key, core.generations.now(), joins, arrived) {
            Arrival::There(value) => return Ok(value),
            Arrival::Joined(ticket) => ticket,
            Arrival::First(flight, ticket) => {
                let Some(permit) = core.loads.try_admit(1) else {
                    return Err(PortError::unavailable("the cache", "too many loads are under way"));
                };
                let fill = Fill::new(Arc::clone(core), key, tags.to_vec(), flight, None);
                core.io.spawn(async move {
                    fill.run(load).await;
                    drop(permit);
                });
                ticket
            }
        };
        ticket.value().await
    }

    /// Loads a value anew in the background, after the old one was served. Does nothing if a load is already under way.
    fn refresh<T, L, F>(&self, key: EntryKey, tags: &[CacheTag], old: CacheEntry, load: LoadSpec<T, L>)
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = PortResult<Option<T>>> + Send + 'static,
    {
        let core = &self.core;
        let joins = |born| core.generations.is_current(born, tags);
        if let Arrival::First(flight, _) = core.flights.board(&key, core.generations.now(), joins, || None)
            && let Some(permit) = core.loads.try_admit(1)
        {
            let fill = Fill::new(Arc::clone(core), key, tags.to_vec(), flight, Some(old));
            core.io.spawn(async move {
                fill.run(load).await;
                drop(permit);
            });
        }
    }

    /// Invalidates, in both tiers, all entries that a change reaches. Await it between the commit and the answer to the
    /// client: from then on this instance shows the change, and so does every instance that asks the shared tier.
    pub async fn changed(&self, change: &Tag) {
        self.invalidate(&CacheTag::reached_by(change)).await;
    }

    /// Like [`changed`](Self::changed), for tags.
    pub async fn invalidate(&self, tags: &[CacheTag]) {
        let core = &self.core;
        if tags.is_empty() {
            return;
        }
        let receipt = core.outdate(tags);
        if let Some(shared) = core.shared.as_ref().filter(|_| core.debts.is_trusted()) {
            match shared.invalidate(tags).await {
                Ok(()) => core.debts.paid(&receipt),
                Err(error) => core.failed(&error),
            }
        }
    }

    /// Takes note of a change made elsewhere; `None`: anything may have changed. Does not block.
    pub fn heard(&self, change: Option<&Tag>) {
        if let Some(Tag::Entries(pattern)) = change {
            let (core, pattern) = (Arc::clone(&self.core), pattern.clone());
            self.core.io.spawn_blocking(move || core.memory.remove_matching(&pattern));
            return;
        }
        let tags = change.map_or_else(|| vec![CacheTag::ALL], CacheTag::reached_by);
        if !tags.is_empty() {
            self.core.outdate(&tags);
            self.core.debts.remind();
        }
    }

    /// Removes from both tiers the entries whose key matches, and returns how many were in the shared one. Other
    /// instances drop their entries in memory when they [hear](Self::heard) of it. A load under way may bring its entry
    /// back, so a caller that knows which data changed invalidates the tag instead.
    ///
    /// # Errors
    /// When the shared tier did not answer.
    pub async fn remove(&self, pattern: &KeyPattern) -> PortResult<u64> {
        let core = &self.core;
        let removed = match &core.shared {
            Some(shared) => shared.remove(pattern).await?,
            None => 0,
        };
        let (memory, pattern) = (Arc::clone(core), pattern.clone());
        let removing = core.io.spawn_blocking(move || memory.memory.remove_matching(&pattern));
        removing.await.map_err(|error| PortError::unavailable("the cache", error))?;
        Ok(removed)
    }

    pub fn counters(&self) -> &TieredCounters {
        &self.core.counters
    }

    /// Runs the memory tier's deferred maintenance, so that the counts of entries and bytes are exact.
    pub fn settle(&self) {
        self.core.memory.settle();
    }

    /// The queue of loads, for gauges.
    pub fn queue(&self) -> AdmissionSnapshot {
        self.core.loads.snapshot()
    }
}

impl Core {
    fn in_memory(&self, key: &EntryKey, tags: &[CacheTag]) -> InMemory {
        let Some(entry) = self.memory.get(key) else { return InMemory::Nothing };
        let now = self.clock.monotonic();
        if !self.generations.is_current(entry.born, tags) {
            self.counters.of(key.cache).outdated.fetch_add(1, Relaxed);
            self.memory.remove(key);
            return InMemory::Nothing;
        }
        match entry {
            CacheEntry { fresh_until, value, .. } if now < fresh_until => InMemory::Fresh(value),
            CacheEntry { stale_until, .. } if now < stale_until => InMemory::Stale(entry),
            _ => InMemory::Nothing,
        }
    }

    /// Outdates the entries in memory, and records that the shared tier has yet to be invalidated. The debt is recorded
    /// first: a load that begins after memory was outdated then finds the debt, or finds it paid.
    fn outdate(&self, tags: &[CacheTag]) -> debts::OwedTags {
        self.counters.invalidations.fetch_add(tags.len() as u64, Relaxed);
        let receipt = if self.shared.is_some() { self.debts.owe(tags) } else { debts::OwedTags::default() };
        self.generations.invalidate(tags);
        receipt
    }

    /// The shared tier, if it may be asked about these tags.
    fn shared_for(&self, tags: &[CacheTag]) -> Option<&Arc<dyn SharedCache>> {
        self.shared.as_ref().filter(|_| self.debts.may_ask(tags))
    }

    /// Records a failed call: the shared tier is not asked again until it answers the background task.
    fn failed(&self, error: &PortError) {
        self.counters.shared_errors.fetch_add(1, Relaxed);
        if self.debts.doubt() {
            self.counters.shared_away.store(1, Relaxed);
            tracing::warn!(%error, "the shared cache does not answer; this node caches in memory alone until it does");
        }
    }

    /// When a value with this time to live stops being fresh.
    fn fresh_until(&self, now: Instant, ttl: Duration) -> Instant {
        now + ttl.mul_f64(1.0 - fastrand::f64() * JITTER)
    }
}

/// The largest share of a time to live that is cut off at random.
const JITTER: f64 = 0.1;

fn typed<T: Send + Sync + 'static>(value: Value) -> PortResult<Option<Arc<T>>> {
    let typed = value.map(|value| value.downcast::<T>()).transpose();
    typed.map_err(|_| PortError::rejected("the cache", "one key was used for values of two types"))
}
