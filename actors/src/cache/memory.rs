//! The first tier: decoded values in this process, bounded by weight.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use moka::{Expiry, notification::RemovalCause, sync::Cache};

use super::{counters::TieredCounters, generations::Generation};
use crate::ports::{EntryKey, KeyPattern};

/// Estimated bytes of an entry beside its value: the cache's own bookkeeping and the key. The allocator adds to it:
/// `./bench cache` compares the weight of entries with their resident memory.
const OVERHEAD: usize = 320;

/// A value whose type the caller knows; `None`: the object does not exist.
pub(super) type Value = Option<Arc<dyn Any + Send + Sync>>;

/// A value and how long it is good for.
#[derive(Clone)]
pub(super) struct CacheEntry {
    pub(super) value: Value,
    /// The generation before its load began.
    pub(super) born: Generation,
    pub(super) fresh_until: Instant,
    /// Until this time the value may be served while it is refreshed.
    pub(super) stale_until: Instant,
    pub(super) weight: u32,
}

impl CacheEntry {
    /// The weight of an entry whose value takes this many bytes.
    pub(super) fn weight(key: &EntryKey, value: usize) -> u32 {
        u32::try_from(OVERHEAD + key.id.len() + value).unwrap_or(u32::MAX)
    }
}

/// Entries by key.
pub(super) struct MemoryTier {
    entries: Cache<EntryKey, CacheEntry>,
}

impl MemoryTier {
    pub(super) fn new(bytes: u64, counters: Arc<TieredCounters>) -> Self {
        let entries = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, entry: &CacheEntry| entry.weight)
            .expire_after(UntilStale)
            .eviction_listener(move |key: Arc<EntryKey>, entry: CacheEntry, cause| {
                let counters = counters.of(key.cache);
                counters.entries.fetch_sub(1, Relaxed);
                counters.bytes.fetch_sub(u64::from(entry.weight), Relaxed);
                if cause == RemovalCause::Size {
                    counters.evictions.fetch_add(1, Relaxed);
                }
            })
            .build();
        Self { entries }
    }

    pub(super) fn get(&self, key: &EntryKey) -> Option<CacheEntry> {
        self.entries.get(key)
    }

    pub(super) fn put(&self, key: &EntryKey, entry: CacheEntry, counters: &TieredCounters) {
        let counters = counters.of(key.cache);
        counters.entries.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(u64::from(entry.weight), Relaxed);
        self.entries.insert(key.clone(), entry);
    }

    pub(super) fn remove(&self, key: &EntryKey) {
        self.entries.invalidate(key);
    }

    /// Drops the entries whose key matches. It visits every entry, so do not call it on a thread that serves requests.
    pub(super) fn remove_matching(&self, pattern: &KeyPattern) {
        for (key, _) in &self.entries {
            if pattern.matches(&key.to_string()) {
                self.entries.invalidate(&*key);
            }
        }
    }

    /// Runs the cache's deferred maintenance, so that the counters are exact.
    pub(super) fn settle(&self) {
        self.entries.run_pending_tasks();
    }
}

/// Entries expire when they may no longer be served. Their times are on the injected clock; its steps are taken to be
/// as long as real ones.
struct UntilStale;

impl Expiry<EntryKey, CacheEntry> for UntilStale {
    fn expire_after_create(&self, _: &EntryKey, entry: &CacheEntry, now: Instant) -> Option<Duration> {
        Some(entry.stale_until.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &EntryKey,
        entry: &CacheEntry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.stale_until.saturating_duration_since(now))
    }
}
