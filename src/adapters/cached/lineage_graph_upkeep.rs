//! Pruning of the lineage graph. Removals invalidate cached walks.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::Date;
use penstock_actors::{
    cache::TieredCache,
    ports::{LineageGraphUpkeep, PortResult, Tag, TaskLease},
};

/// Pruning that invalidates cached walks.
pub struct CachedLineageGraphUpkeep {
    inner: Arc<dyn LineageGraphUpkeep>,
    cache: TieredCache,
}

impl CachedLineageGraphUpkeep {
    pub fn new(inner: Arc<dyn LineageGraphUpkeep>, cache: TieredCache) -> Self {
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
impl LineageGraphUpkeep for CachedLineageGraphUpkeep {
    async fn prune_edges(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.stepped(self.inner.prune_edges(lease, day, limit).await).await
    }

    async fn prune_nodes(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64> {
        self.stepped(self.inner.prune_nodes(lease, day, limit).await).await
    }
}
