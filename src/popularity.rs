//! Popularity: which assets and contents this instance is asked for most.
//!
//! Handlers and caches count here; the [warmer](crate::cache_warmer) reads it. **Bound.** Two sketches of [`COUNTERS`] counters each.

use std::sync::Mutex;

use penstock_actors::{
    cache::hot_keys::TopUses,
    ids::{ContentHash, VersionId},
};

/// Counters per list: with this many, a thing with more than one use in a thousand is certainly found.
const COUNTERS: usize = 1024;

/// Uses counted on this instance.
pub struct Uses {
    pub(crate) assets: Mutex<TopUses<VersionId>>,
    pub(crate) contents: Mutex<TopUses<ContentHash>>,
}

impl Default for Uses {
    fn default() -> Self {
        Self { assets: Mutex::new(TopUses::new(COUNTERS)), contents: Mutex::new(TopUses::new(COUNTERS)) }
    }
}

impl Uses {
    pub fn asset(&self, id: &VersionId) {
        count(&self.assets, id);
    }

    pub fn content(&self, hash: &ContentHash) {
        count(&self.contents, hash);
    }
}

/// If two threads count at once, one use is dropped: that affects often and rarely used things alike, and no request
/// waits for a statistic.
fn count<T: Clone + Eq + std::hash::Hash + Ord>(uses: &Mutex<TopUses<T>>, thing: &T) {
    if let Ok(mut uses) = uses.try_lock() {
        uses.add(thing);
    }
}
