//! Warming: loads the things that all instances use most into this instance's caches before a request for them.
//!
//! Uses are [counted](crate::popularity) in two bounded sketches and summed in the shared cache, by the hour. At the start, and then at
//! an interval, an instance loads the most used assets into its caches, and the size and first leaf of the most used
//! contents into memory. The number is bounded, and they are loaded one by one in the background, so that requests lose
//! nothing; each instance has a time of its own. **When the shared cache is down,** an instance warms what it has
//! counted itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use penstock_actors::{
    cache::hot_keys::HeavyHitters,
    ids::ContentHash,
    model::LEAF_BYTES,
    node::Node,
    ports::{ContentIndex, PopularityList, PortResult, SharedCache},
};

use crate::{
    adapters::cached::CachedAssets, content_sizes::ContentSizes, popularity::Popularity,
    telemetry::metrics::WarmMetrics,
};

/// The most entries per list that a pass sends to the shared cache.
const MAX_REPORTED_ITEMS: usize = 512;

/// The fraction of the interval by which an instance may be early, so that instances that were started together do not
/// load the same things at the same time.
const SPREAD: f64 = 0.2;

/// The longest wait of the first pass: an instance that has just started serves requests first.
const FIRST: Duration = Duration::from_secs(2);

/// How much is warmed, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheWarmerSettings {
    /// The number of assets, and the number of contents.
    pub most: usize,
    pub interval: Duration,
    /// Bytes of leaves that warming may load into memory.
    pub leaves: u64,
}

/// The dependencies of warming.
pub struct CacheWarmer {
    pub settings: CacheWarmerSettings,
    pub uses: Arc<Popularity>,
    pub shared: Option<Arc<dyn SharedCache>>,
    pub assets: Arc<CachedAssets>,
    pub index: Arc<dyn ContentIndex>,
    pub node: Node,
    pub sizes: Arc<ContentSizes>,
    pub metrics: WarmMetrics,
}

impl CacheWarmer {
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
        for id in self.most_popular(PopularityList::Assets, &self.uses.assets).await {
            match self.assets.warm(id).await {
                Ok(()) => self.metrics.warmed("asset"),
                // The database is in trouble: warming must not add to its load.
                Err(error) => return tracing::debug!(%error, "an asset cannot be warmed; this pass ends"),
            }
        }
        let mut room = self.settings.leaves;
        for hash in self.most_popular(PopularityList::Contents, &self.uses.contents).await {
            match self.warm_content(hash, &mut room).await {
                Ok(()) => self.metrics.warmed("content"),
                Err(error) => return tracing::debug!(%error, "a content cannot be warmed; this pass ends"),
            }
        }
    }

    /// The things that all instances use most. Also sends the uses that this instance has counted.
    async fn most_popular<T>(&self, list: PopularityList, uses: &Mutex<HeavyHitters<T>>) -> Vec<T>
    where
        T: Clone + Eq + std::hash::Hash + Ord + std::fmt::Display + std::str::FromStr,
    {
        let counted = uses.lock().map(|mut uses| uses.take(MAX_REPORTED_ITEMS)).unwrap_or_default();
        if let Some(shared) = &self.shared {
            let recent: Vec<_> = counted.iter().map(|(thing, count)| (thing.to_string(), *count)).collect();
            let most = async {
                shared.add_popularity(list, &recent).await?;
                shared.most_popular(list, self.settings.most).await
            };
            match most.await {
                Ok(most) => return most.iter().filter_map(|name| name.parse().ok()).collect(),
                Err(error) => {
                    tracing::debug!(%error, "the shared cache does not return the most used things; this instance warms what it has counted itself");
                }
            }
        }
        counted.into_iter().take(self.settings.most).map(|(thing, _)| thing).collect()
    }

    async fn warm_content(&self, hash: ContentHash, room: &mut u64) -> PortResult<()> {
        let Some(meta) = self.index.content(hash).await? else { return Ok(()) };
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
