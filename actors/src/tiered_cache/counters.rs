//! What a cache has counted, for whoever exports it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ports::CacheName;

/// What one cache has counted.
#[derive(Debug, Default)]
pub struct CacheCounters {
    pub memory: TierCounters,
    pub shared: TierCounters,
    /// Values asked of where they come from.
    pub loads: AtomicU64,
    pub load_errors: AtomicU64,
    /// Answers older than their time to live, given while a refresh was under way.
    pub stale: AtomicU64,
    /// Entries that went for want of memory.
    pub evictions: AtomicU64,
    /// Entries found outdated by an invalidation.
    pub outdated: AtomicU64,
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
}

/// What one tier has answered. Whoever joins a load that is under way counts as a miss of the memory.
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

/// What all caches of an instance have counted.
#[derive(Debug, Default)]
pub struct TieredCounters {
    caches: [CacheCounters; CacheName::ALL.len()],
    /// Tags invalidated, here or by word from elsewhere.
    pub invalidations: AtomicU64,
    /// Calls of the shared tier that failed.
    pub shared_errors: AtomicU64,
    /// 1 while the shared tier is not asked.
    pub shared_away: AtomicU64,
}

impl TieredCounters {
    pub const fn of(&self, cache: CacheName) -> &CacheCounters {
        &self.caches[cache.index()]
    }
}
