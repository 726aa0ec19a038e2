//! Assets with their price, by version id.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    ids::{ContentHash, KeyId, ProducerId, VersionId},
    model::{ApiKey, Asset, ContentMeta, NewAsset, NewProducer},
    ports::{CacheName, CacheTag, Catalog, NewAssetError, PortResult, Tag},
};

use crate::popularity::Popularity;

/// The catalogue, with assets from the cache.
pub struct CachedCatalog {
    inner: Arc<dyn Catalog>,
    cache: TieredCache,
    uses: Arc<Popularity>,
}

impl CachedCatalog {
    /// Counts reads of assets in `uses`.
    pub fn new(inner: Arc<dyn Catalog>, cache: TieredCache, uses: Arc<Popularity>) -> Self {
        Self { inner, cache, uses }
    }

    /// Loads an asset into the cache without counting a use.
    ///
    /// # Errors
    /// As [`Catalog::asset`].
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
impl Catalog for CachedCatalog {
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()> {
        self.inner.create_producer(new).await
    }

    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>> {
        self.inner.key(secret_hash).await
    }

    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool> {
        self.inner.replace_key_secret(id, secret_hash).await
    }

    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>> {
        self.inner.content(hash).await
    }

    async fn content_of(&self, hash: ContentHash, producer: ProducerId) -> PortResult<Option<ContentMeta>> {
        self.inner.content_of(hash, producer).await
    }

    async fn announce_content(&self, meta: &ContentMeta, by: ProducerId) -> PortResult<()> {
        self.inner.announce_content(meta, by).await
    }

    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool> {
        self.inner.complete_content(hash).await
    }

    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        self.inner.unknown_content(hashes).await
    }

    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.inner.withdraw_announcements(before, limit).await
    }

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
