//! Warming: what all instances are asked for most is in this one's caches before somebody asks it.
//!
//! Uses are counted here in two bounded sketches and added up in the shared cache, by the hour. At the start, and then now and
//! then, an instance loads the assets used most into its caches, and of the contents used most the size and the first leaf
//! into memory. That is bounded in number, one by one and in the background, so that it takes nothing from whoever is served;
//! instances do it at times of their own. **When the shared cache is away** an instance warms what it has counted itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use penstock_actors::{
    ids::{ContentHash, VersionId},
    model::LEAF_BYTES,
    ports::{Catalog, PortResult, SharedCache, UseList},
    system::Node,
    top_uses::TopUses,
};

use crate::{adapters::cached::CachedCatalog, http::ContentSizes, telemetry::metrics::WarmMetrics};

/// Counters of each list: with so many, what is used more often than once in a thousand times is certainly found.
const COUNTERS: usize = 1024;

/// What a pass tells the others of each list.
const TOLD: usize = 512;

/// The part of the interval by which an instance may be early, so that instances that were started together do not load the
/// same things at the same time.
const SPREAD: f64 = 0.2;

/// How long the first pass waits at most: an instance that has just been started serves first.
const FIRST: Duration = Duration::from_secs(2);

/// What is asked for, counted on this instance.
pub struct Uses {
    assets: Mutex<TopUses<VersionId>>,
    contents: Mutex<TopUses<ContentHash>>,
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

/// Where two count at once, one of them is passed over: that happens to what is used much and to what is not alike, and nobody
/// waits for a statistic.
fn count<T: Clone + Eq + std::hash::Hash + Ord>(uses: &Mutex<TopUses<T>>, thing: &T) {
    if let Ok(mut uses) = uses.try_lock() {
        uses.add(thing);
    }
}

/// How much is warmed, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmSettings {
    /// Assets and contents each.
    pub most: usize,
    pub interval: Duration,
    /// Bytes of leaves of content that warming may bring into memory.
    pub leaves: u64,
}

/// What warming works with.
pub struct Warmer {
    pub settings: WarmSettings,
    pub uses: Arc<Uses>,
    pub shared: Option<Arc<dyn SharedCache>>,
    pub catalog: Arc<CachedCatalog>,
    pub node: Node,
    pub sizes: Arc<ContentSizes>,
    pub metrics: WarmMetrics,
}

impl Warmer {
    /// Warms for as long as the process lives.
    pub async fn run(self) {
        if self.settings.most == 0 {
            return;
        }
        tokio::time::sleep(FIRST.mul_f64(fastrand::f64())).await;
        loop {
            self.pass().await;
            tokio::time::sleep(self.settings.interval.mul_f64(1.0 - SPREAD * fastrand::f64())).await;
        }
    }

    async fn pass(&self) {
        for id in self.most_used(UseList::Assets, &self.uses.assets).await {
            match self.catalog.warm(id).await {
                Ok(()) => self.metrics.warmed("asset"),
                // The database has other worries: warming is no reason to add to them.
                Err(error) => return tracing::debug!(%error, "an asset was not warmed"),
            }
        }
        let mut room = self.settings.leaves;
        for hash in self.most_used(UseList::Contents, &self.uses.contents).await {
            match self.warm_content(hash, &mut room).await {
                Ok(()) => self.metrics.warmed("content"),
                Err(error) => return tracing::debug!(%error, "content was not warmed"),
            }
        }
    }

    /// What all instances use most; tells them of what this one has counted.
    async fn most_used<T>(&self, list: UseList, uses: &Mutex<TopUses<T>>) -> Vec<T>
    where
        T: Clone + Eq + std::hash::Hash + Ord + std::fmt::Display + std::str::FromStr,
    {
        let counted = uses.lock().map(|mut uses| uses.take(TOLD)).unwrap_or_default();
        if let Some(shared) = &self.shared {
            let told: Vec<_> = counted.iter().map(|(thing, count)| (thing.to_string(), *count)).collect();
            let most = async {
                shared.add_uses(list, &told).await?;
                shared.most_used(list, self.settings.most).await
            };
            match most.await {
                Ok(most) => return most.iter().filter_map(|name| name.parse().ok()).collect(),
                Err(error) => tracing::debug!(%error, "it is not known what others use most"),
            }
        }
        counted.into_iter().take(self.settings.most).map(|(thing, _)| thing).collect()
    }

    async fn warm_content(&self, hash: ContentHash, room: &mut u64) -> PortResult<()> {
        let Some(meta) = self.catalog.content(hash).await? else { return Ok(()) };
        self.sizes.remember(hash, meta.size_bytes).await;
        let first = meta.size_bytes.min(LEAF_BYTES);
        if first > 0 && *room >= first {
            *room -= first;
            let open = self.node.content.open(hash, meta.size_bytes).await?;
            self.node.content.read(&open, 0..first, first).await?;
        }
        Ok(())
    }
}
