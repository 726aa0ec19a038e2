//! Popularity: which assets and contents this instance is asked for most.
//!
//! Handlers and caches count here; the [warmer](crate::cache_warmer) reads it. **Bound.** Two sketches of [`COUNTERS`] counters each.

use std::sync::Mutex;

use penstock_actors::{
    cache::hot_keys::HeavyHitters,
    ids::{ContentHash, VersionId},
};

/// Counters per list: with this many, a thing with more than one use in a thousand is certainly found.
const COUNTERS: usize = 1024;

/// Uses counted on this instance.
pub struct Popularity {
    pub(crate) assets: Mutex<HeavyHitters<VersionId>>,
    pub(crate) contents: Mutex<HeavyHitters<ContentHash>>,
}

impl Default for Popularity {
    fn default() -> Self {
        Self { assets: Mutex::new(HeavyHitters::new(COUNTERS)), contents: Mutex::new(HeavyHitters::new(COUNTERS)) }
    }
}

impl Popularity {
    pub fn asset(&self, id: &VersionId) {
        count(&self.assets, id);
    }

    pub fn content(&self, hash: &ContentHash) {
        count(&self.contents, hash);
    }
}

/// If two threads count at once, one use is dropped: that affects often and rarely used things alike, and no request
/// waits for a statistic.
fn count<T: Clone + Eq + std::hash::Hash + Ord>(uses: &Mutex<HeavyHitters<T>>, thing: &T) {
    if let Ok(mut uses) = uses.try_lock() {
        uses.add(thing);
    }
}
