//! Governance policies, by id: a publisher or seller reads the same policy each time.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    governance::Policy,
    ids::{PolicyId, VersionId},
    ports::{
        CacheName, CacheTag, Page, Policies, PolicyRun, PolicySummary, PortResult, Put, RunMark, StoredPolicy, Tag,
    },
};

/// Policies, the current versions from the cache.
pub struct CachedPolicies {
    inner: Arc<dyn Policies>,
    cache: TieredCache,
}

impl CachedPolicies {
    pub fn new(inner: Arc<dyn Policies>, cache: TieredCache) -> Self {
        Self { inner, cache }
    }
}

#[async_trait]
impl Policies for CachedPolicies {
    async fn put_document(&self, id: &PolicyId, policy: &Policy, now: Timestamp) -> PortResult<Put> {
        let put = self.inner.put_document(id, policy, now).await;
        self.cache.changed(&Tag::Governance(id.clone())).await;
        put
    }

    async fn document(&self, id: &PolicyId) -> PortResult<Option<Arc<StoredPolicy>>> {
        let key = format!("governance:{id}");
        let (inner, wanted) = (Arc::clone(&self.inner), id.clone());
        let load = move || async move { Ok(inner.document(&wanted).await?.map(Arc::unwrap_or_clone)) };
        self.cache.get(CacheName::Policies, &key, &[CacheTag::governance(id)], load).await
    }

    async fn document_version(&self, id: &PolicyId, version: u32) -> PortResult<Option<StoredPolicy>> {
        self.inner.document_version(id, version).await
    }

    async fn documents(&self, after: Option<&PolicyId>, limit: u32) -> PortResult<Page<PolicySummary>> {
        self.inner.documents(after, limit).await
    }

    async fn record_run(&self, run: &PolicyRun) -> PortResult<()> {
        self.inner.record_run(run).await
    }

    async fn policy_runs(
        &self,
        id: &PolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<PolicyRun>> {
        self.inner.policy_runs(id, asset, after, limit).await
    }

    async fn forget_policy_runs(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.inner.forget_policy_runs(before, limit).await
    }

    async fn forget_policy_versions(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.inner.forget_policy_versions(before, limit).await
    }
}
