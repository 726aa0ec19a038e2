//! Assets with their price, by version id.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    ids::{ProducerId, VersionId},
    model::{Asset, NewAsset},
    ports::{Assets, CacheName, CacheTag, NewAssetError, PortResult, Tag},
};

use crate::popularity::Popularity;

/// Assets from the cache.
pub struct CachedAssets {
    inner: Arc<dyn Assets>,
    cache: TieredCache,
    uses: Arc<Popularity>,
}

impl CachedAssets {
    /// Counts reads of assets in `uses`.
    pub fn new(inner: Arc<dyn Assets>, cache: TieredCache, uses: Arc<Popularity>) -> Self {
        Self { inner, cache, uses }
    }

    /// Loads an asset into the cache without counting a use.
    ///
    /// # Errors
    /// As [`Assets::asset`].
    pub async fn warm(&self, id: VersionId) -> PortResult<()> {
        self.read(id).await.map(drop)
    }

    async fn read(&self, id: VersionId) -> PortResult<Option<Arc<Asset>>> {
        let inner = Arc::clone(&self.inner);
        let load = move || async move { inner.asset(id).await };
        self.cache.get(CacheName::Assets, &id.to_string(), &[CacheTag::asset(id)], load).await
    }
}

#[async_trait]
impl Assets for CachedAssets {
    async fn create_asset(&self, new: &NewAsset) -> Result<Asset, NewAssetError> {
        let made = self.inner.create_asset(new).await;
        self.cache.changed(&Tag::Asset(new.version_id)).await;
        made
    }

    async fn asset(&self, id: VersionId) -> PortResult<Option<Asset>> {
        self.uses.asset(&id);
        Ok(self.read(id).await?.map(Arc::unwrap_or_clone))
    }

    async fn set_price(
        &self,
        id: VersionId,
        satoshis: u64,
        producer: Option<ProducerId>,
        now: Timestamp,
    ) -> PortResult<bool> {
        let set = self.inner.set_price(id, satoshis, producer, now).await;
        if !matches!(set, Ok(false)) {
            self.cache.changed(&Tag::Asset(id)).await;
        }
        set
    }
}
