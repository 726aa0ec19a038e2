//! The fill of one key: shared tier, lock, load, and storing the value. It runs in a task of its own.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::future::join;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Core, LoadSpec,
    flights::Flight,
    memory::{CacheEntry, Value},
};
use crate::ports::{
    CacheLookup, CacheTag, EntryKey, Loader, PortError, PortResult, SharedCache, SharedValue, TagVersions,
};

/// How long a load may keep other instances waiting: longer than any load should take. If the loading instance dies,
/// the only loss is that the others load in parallel.
pub const LOCK_TTL: Duration = Duration::from_secs(5);

/// How often to look for a value that another instance loads: at first, and later.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(50);

/// The wait before a failed refresh is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Fill {
    core: Arc<Core>,
    key: EntryKey,
    /// The tags of the value, and the tag that every value has.
    tags: Vec<CacheTag>,
    flight: Flight,
    /// The value that is served meanwhile.
    old: Option<CacheEntry>,
    missed: bool,
}

/// The state of the shared tier, and whether this instance is to load.
enum SharedAnswer {
    Fresh,
    /// LoadSpec, and store under these versions. The lock is to be given back, if there is one.
    Load(Option<TagVersions>, Option<Loader>),
    /// Another instance refreshes the value that is served meanwhile.
    BeingRefreshed,
}

impl Fill {
    pub(super) fn new(
        core: Arc<Core>,
        key: EntryKey,
        mut tags: Vec<CacheTag>,
        flight: Flight,
        old: Option<CacheEntry>,
    ) -> Self {
        tags.push(CacheTag::ALL);
        Self { core, key, tags, flight, old, missed: false }
    }

    pub(super) async fn run<T, L, F>(mut self, (good_for, load): LoadSpec<T, L>)
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = PortResult<Option<T>>> + Send + 'static,
    {
        let shared = self.core.shared_for(&self.tags).cloned();
        let (seen, lock) = match &shared {
            None => (None, None),
            Some(shared) => match self.ask::<T>(&**shared).await {
                SharedAnswer::Fresh | SharedAnswer::BeingRefreshed => return,
                SharedAnswer::Load(seen, lock) => (seen, lock),
            },
        };
        let counters = self.core.counters.of(self.key.cache);
        counters.loads.fetch_add(1, Relaxed);
        let loaded = load().await;
        let kept = match loaded {
            Ok(Some(value)) => {
                let ttl = good_for(&value).min(self.core.settings.ttls.of(self.key.cache));
                self.arrived(value, ttl)
            }
            Ok(None) => {
                let until = self.core.clock.monotonic() + self.core.settings.negative_ttl;
                self.settle(None, 0, until, until);
                None
            }
            Err(error) => {
                counters.load_errors.fetch_add(1, Relaxed);
                self.failed(error);
                None
            }
        };
        let Self { core, key, tags, flight, .. } = self;
        // From here on the value is found in memory.
        drop(flight);
        if let (Some(shared), Some(value), Some(seen)) = (core.shared_for(&tags), kept, seen) {
            let ttl = core.settings.ttls.of(key.cache) + core.settings.stale;
            if let Err(error) = shared.keep(&key, &tags, &seen, &value, ttl).await {
                core.failed(&error);
            }
        }
        if let (Some(shared), Some(lock)) = (shared, lock)
            && core.debts.is_trusted()
            && let Err(error) = shared.end_load(&key, lock).await
        {
            core.failed(&error);
        }
    }

    /// Looks into the shared tier; if it has nothing fresh, decides which instance loads.
    async fn ask<T>(&mut self, shared: &dyn SharedCache) -> SharedAnswer
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        match self.lookup::<T>(shared).await {
            None => return SharedAnswer::Load(None, None),
            Some(None) => return SharedAnswer::Fresh,
            Some(Some(_)) => {}
        }
        let loader = fastrand::u64(..);
        // Look again after taking the lock: another instance may have stored the value and released the lock in
        // between.
        let (locked, look) =
            join(shared.begin_load(&self.key, loader, LOCK_TTL), shared.lookup(&self.key, &self.tags)).await;
        let locked = match locked {
            Ok(locked) => locked,
            Err(error) => {
                self.core.failed(&error);
                return if matches!(self.taken::<T>(look), Some(None)) {
                    SharedAnswer::Fresh
                } else {
                    SharedAnswer::Load(None, None)
                };
            }
        };
        let mut current = match self.taken::<T>(look) {
            None => return SharedAnswer::Load(None, None),
            Some(None) => {
                if locked && let Err(error) = shared.end_load(&self.key, loader).await {
                    self.core.failed(&error);
                }
                return SharedAnswer::Fresh;
            }
            Some(Some(seen)) if locked => return SharedAnswer::Load(Some(seen), Some(loader)),
            Some(Some(seen)) => seen,
        };
        let (began, mut pause) = (tokio::time::Instant::now(), FIRST_LOOK);
        while began.elapsed() < self.core.settings.patience {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
            match self.lookup::<T>(shared).await {
                None => return SharedAnswer::Load(None, None),
                Some(None) => return SharedAnswer::Fresh,
                Some(Some(seen)) => current = seen,
            }
        }
        if self.serve_stale() { SharedAnswer::BeingRefreshed } else { SharedAnswer::Load(Some(current), None) }
    }

    /// One look. Returns `None` when the shared tier does not answer, `Some(None)` when it has a fresh value, and
    /// otherwise the versions to load under. A stale value is handed out at once, and is served while the refresh goes
    /// on.
    async fn lookup<T>(&mut self, shared: &dyn SharedCache) -> Option<Option<TagVersions>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let look = shared.lookup(&self.key, &self.tags).await;
        self.taken::<T>(look)
    }

    /// The outcome of a look, as [`lookup`](Self::lookup) returns it.
    fn taken<T>(&mut self, look: PortResult<CacheLookup>) -> Option<Option<TagVersions>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let CacheLookup { value, seen } = match look {
            Ok(look) => look,
            Err(error) => {
                self.core.failed(&error);
                return None;
            }
        };
        let counters = self.core.counters.of(self.key.cache);
        // A value stored by another version of this program may be unreadable: treat it as a miss.
        let read = value.and_then(|SharedValue { fresh_until, bytes }| {
            Some((serde_json::from_slice::<T>(&bytes).ok()?, fresh_until, bytes.len()))
        });
        let Some((value, fresh_until, size)) = read else {
            self.missed();
            return Some(Some(seen));
        };
        let (now, stale) = (self.core.clock.monotonic(), self.core.settings.stale);
        // Clocks of instances differ: no value is good for longer than this instance would have kept it.
        let most = self.core.settings.ttls.of(self.key.cache);
        let fresh = until(fresh_until, self.core.clock.now()).min(most);
        let served = until(fresh_until + stale, self.core.clock.now()).min(most + stale);
        if !fresh.is_zero() {
            counters.shared.found(true);
            self.settle(Some(Arc::new(value)), size + size_of::<T>(), now + fresh, now + served);
            return Some(None);
        }
        let serves = self.old.is_none() && !served.is_zero();
        if serves {
            counters.shared.found(true);
            counters.stale.fetch_add(1, Relaxed);
            self.settle(Some(Arc::new(value)), size + size_of::<T>(), now, now + served);
        }
        if !serves {
            self.missed();
        }
        Some(Some(seen))
    }

    /// Counts a miss of the shared tier, once per fill.
    fn missed(&mut self) {
        if !std::mem::replace(&mut self.missed, true) {
            self.core.counters.of(self.key.cache).shared.found(false);
        }
    }

    /// Takes a loaded value with its time to live; returns the form in which the shared tier stores it.
    fn arrived<T: Serialize + Send + Sync + 'static>(&mut self, value: T, ttl: Duration) -> Option<SharedValue> {
        let encoded = serde_json::to_vec(&value);
        let core = Arc::clone(&self.core);
        let now = core.clock.monotonic();
        let fresh_until = core.fresh_until(now, ttl);
        let value = Arc::new(value);
        match encoded {
            Ok(bytes) => {
                self.settle(Some(value), bytes.len() + size_of::<T>(), fresh_until, fresh_until + core.settings.stale);
                let fresh_until: Timestamp = core.clock.now() + (fresh_until - now);
                Some(SharedValue { fresh_until, bytes: bytes.into() })
            }
            Err(error) => {
                tracing::error!(%error, cache = self.key.cache.as_str(), "a value cannot be encoded; this node answers with it and does not cache it");
                self.flight.answer(Ok(Some(value)));
                None
            }
        }
    }

    /// Puts a value into memory and answers all requests that wait.
    fn settle(&mut self, value: Value, size: usize, fresh_until: Instant, stale_until: Instant) {
        let weight = CacheEntry::weight(&self.key, size);
        let entry = CacheEntry { value, born: self.flight.born(), fresh_until, stale_until, weight };
        self.put(entry.clone());
        self.flight.answer(Ok(entry.value.clone()));
        self.old = Some(entry);
    }

    /// An already outdated value must not replace one that was loaded after it.
    fn put(&self, entry: CacheEntry) {
        if self.core.generations.is_current(entry.born, &self.tags) {
            self.core.memory.put(&self.key, entry, &self.core.counters);
        }
    }

    /// Answers the requests that joined a refresh with the old value; false when it may not be served.
    fn serve_stale(&self) -> bool {
        match &self.old {
            // Checked now, after the requests have joined.
            Some(old) if self.core.generations.is_current(old.born, &self.tags) => {
                self.flight.answer(Ok(old.value.clone()));
                true
            }
            _ => false,
        }
    }

    /// Reports the error to all requests that wait. The old value continues to be served while it may be.
    fn failed(&self, error: PortError) {
        tracing::debug!(%error, cache = self.key.cache.as_str(), "a load failed");
        if self.serve_stale() {
            let again = self.core.clock.monotonic() + RETRY_AFTER;
            if let Some(old) = self.old.clone() {
                self.put(CacheEntry { fresh_until: again.min(old.stale_until), ..old });
            }
        } else {
            self.flight.answer(Err(Arc::new(error)));
        }
    }
}

/// The time between two moments; zero when `moment` has passed.
fn until(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default()
}
