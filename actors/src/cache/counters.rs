//! The counters of the caches, for export.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ports::CacheName;

/// The counters of one cache.
#[derive(Debug, Default)]
pub struct CacheCounters {
    pub memory: TierCounters,
    pub shared: TierCounters,
    /// Loads from the source of the values.
    pub loads: AtomicU64,
    pub load_errors: AtomicU64,
    /// Answers older than their time to live, given while a refresh was under way.
    pub stale: AtomicU64,
    /// Entries dropped because memory was full.
    pub evictions: AtomicU64,
    /// Entries found outdated by an invalidation.
    pub outdated: AtomicU64,
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
}

/// The answers of one tier. A request that joins a load under way counts as a miss of the memory.
#[derive(Debug, Default)]
pub struct TierCounters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
}

impl TierCounters {
    pub(super) fn found(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
    }
}

/// The counters of all caches of an instance.
#[derive(Debug, Default)]
pub struct TieredCounters {
    caches: [CacheCounters; CacheName::ALL.len()],
    /// Tags invalidated, by changes made here or reported from elsewhere.
    pub invalidations: AtomicU64,
    /// Calls of the shared tier that failed.
    pub shared_errors: AtomicU64,
    /// 1 while the shared tier is not used because it failed.
    pub shared_away: AtomicU64,
}

impl TieredCounters {
    pub const fn of(&self, cache: CacheName) -> &CacheCounters {
        &self.caches[cache.index()]
    }
}
