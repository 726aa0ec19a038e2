//! The producers of identity keys, by key. Every signed request reads one.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    ids::ProducerId,
    model::{Binding, IdentityKey},
    ports::{BindOutcome, CacheName, CacheTag, Identities, PortResult, Tag},
};

/// Identity keys, read from the cache.
pub struct CachedIdentities {
    inner: Arc<dyn Identities>,
    cache: TieredCache,
}

impl CachedIdentities {
    pub fn new(inner: Arc<dyn Identities>, cache: TieredCache) -> Self {
        Self { inner, cache }
    }
}

#[async_trait]
impl Identities for CachedIdentities {
    async fn identity(&self, key: IdentityKey) -> PortResult<Option<ProducerId>> {
        let inner = Arc::clone(&self.inner);
        let load = move || async move { inner.identity(key).await };
        let found = self.cache.get(CacheName::Identities, &key.to_string(), &[CacheTag::identity(&key)], load).await?;
        Ok(found.map(|producer| *producer))
    }

    async fn bind_identity(&self, key: IdentityKey, producer: ProducerId, now: Timestamp) -> PortResult<BindOutcome> {
        let bound = self.inner.bind_identity(key, producer, now).await;
        self.cache.changed(&Tag::Identity(key)).await;
        bound
    }

    async fn unbind_identity(&self, key: IdentityKey, producer: ProducerId) -> PortResult<bool> {
        let unbound = self.inner.unbind_identity(key, producer).await;
        // Also when the answer was lost, and when the key was not bound any more: the cached entry may be older.
        self.cache.changed(&Tag::Identity(key)).await;
        unbound
    }

    async fn identities(&self, producer: ProducerId) -> PortResult<Vec<Binding>> {
        self.inner.identities(producer).await
    }
}
