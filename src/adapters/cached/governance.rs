//! Governance policies, by id: a publisher or seller reads the same policy each time.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    governance::GovernancePolicy,
    ids::{GovernancePolicyId, VersionId},
    ports::{
        CacheName, CacheTag, GovernancePolicies, GovernancePolicySummary, GovernanceRun, Page, PortResult, PutOutcome,
        RunMark, StoredGovernancePolicy, Tag,
    },
};

/// Policies, the current versions from the cache.
pub struct CachedGovernancePolicies {
    inner: Arc<dyn GovernancePolicies>,
    cache: TieredCache,
}

impl CachedGovernancePolicies {
    pub fn new(inner: Arc<dyn GovernancePolicies>, cache: TieredCache) -> Self {
        Self { inner, cache }
    }
}

#[async_trait]
impl GovernancePolicies for CachedGovernancePolicies {
    async fn put_document(
        &self,
        id: &GovernancePolicyId,
        policy: &GovernancePolicy,
        now: Timestamp,
    ) -> PortResult<PutOutcome> {
        let put = self.inner.put_document(id, policy, now).await;
        self.cache.changed(&Tag::Governance(id.clone())).await;
        put
    }

    async fn document(&self, id: &GovernancePolicyId) -> PortResult<Option<Arc<StoredGovernancePolicy>>> {
        let key = format!("governance:{id}");
        let (inner, wanted) = (Arc::clone(&self.inner), id.clone());
        let load = move || async move { Ok(inner.document(&wanted).await?.map(Arc::unwrap_or_clone)) };
        self.cache.get(CacheName::Policies, &key, &[CacheTag::governance(id)], load).await
    }

    async fn document_version(
        &self,
        id: &GovernancePolicyId,
        version: u32,
    ) -> PortResult<Option<StoredGovernancePolicy>> {
        self.inner.document_version(id, version).await
    }

    async fn documents(
        &self,
        after: Option<&GovernancePolicyId>,
        limit: u32,
    ) -> PortResult<Page<GovernancePolicySummary>> {
        self.inner.documents(after, limit).await
    }

    async fn record_run(&self, run: &GovernanceRun) -> PortResult<()> {
        self.inner.record_run(run).await
    }

    async fn policy_runs(
        &self,
        id: &GovernancePolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<GovernanceRun>> {
        self.inner.policy_runs(id, asset, after, limit).await
    }

    async fn forget_policy_runs(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.inner.forget_policy_runs(before, limit).await
    }

    async fn forget_policy_versions(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.inner.forget_policy_versions(before, limit).await
    }
}
