//! The lineage window, for the pruner. Removals from the graph invalidate cached walks; events and runs are in no walk.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::civil::Date;
use penstock_actors::{
    cache::TieredCache,
    model::NamespaceKey,
    ports::{LineageUpkeep, PortResult, Tag, WindowState},
};
use uuid::Uuid;

/// Pruning that invalidates cached walks.
pub struct CachedLineageUpkeep {
    inner: Arc<dyn LineageUpkeep>,
    cache: TieredCache,
}

impl CachedLineageUpkeep {
    pub fn new(inner: Arc<dyn LineageUpkeep>, cache: TieredCache) -> Self {
        Self { inner, cache }
    }

    /// A step has removed part of the graph, or it is unknown whether it has.
    async fn stepped(&self, gone: PortResult<u64>) -> PortResult<u64> {
        if gone.as_ref().map_or(true, |gone| *gone > 0) {
            self.cache.changed(&Tag::Lineage).await;
        }
        gone
    }
}

#[async_trait]
impl LineageUpkeep for CachedLineageUpkeep {
    async fn prepare_days(&self, days: &[Date]) -> PortResult<u64> {
        self.inner.prepare_days(days).await
    }

    async fn lease_pruning(&self, holder: Uuid, ttl: Duration) -> PortResult<Option<i64>> {
        self.inner.lease_pruning(holder, ttl).await
    }

    async fn release_pruning(&self, token: i64) -> PortResult<()> {
        self.inner.release_pruning(token).await
    }

    async fn drop_days(&self, token: i64, day: Date, limit: u32) -> PortResult<Option<u64>> {
        self.inner.drop_days(token, day, limit).await
    }

    async fn oversized_namespaces(&self, most: u64, limit: u32) -> PortResult<Vec<(NamespaceKey, u64)>> {
        self.inner.oversized_namespaces(most, limit).await
    }

    async fn trim(&self, token: i64, namespace: NamespaceKey, limit: u32) -> PortResult<u64> {
        self.inner.trim(token, namespace, limit).await
    }

    async fn prune_runs(&self, token: i64, day: Date, limit: u32) -> PortResult<u64> {
        self.inner.prune_runs(token, day, limit).await
    }

    async fn prune_edges(&self, token: i64, day: Date, limit: u32) -> PortResult<u64> {
        self.stepped(self.inner.prune_edges(token, day, limit).await).await
    }

    async fn prune_nodes(&self, token: i64, day: Date, limit: u32) -> PortResult<u64> {
        self.stepped(self.inner.prune_nodes(token, day, limit).await).await
    }

    async fn prune_namespaces(&self, token: i64, day: Date, limit: u32) -> PortResult<u64> {
        self.inner.prune_namespaces(token, day, limit).await
    }

    async fn window(&self, most: u64) -> PortResult<WindowState> {
        self.inner.window(most).await
    }
}
