//! Walks through the graph of lineage, by what was asked.
//!
//! All of them depend on one tag. It is invalidated when the graph has a job, a dataset or an edge that it had not, or has one no
//! more, so that this shows at once; how often and when something was last seen may be as old as the cache keeps its entries. In a graph
//! that events merely confirm, which is what they mostly do, answers stay.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock,
    ids::RunId,
    model::{Direction, Graph, LineageEvent, LineageNode, NodeDetail, NodeKey, RunDetail, Walk},
    ports::{CacheName, CacheTag, Ingested, LineageStore, PortResult, Tag},
    tiered_cache::TieredCache,
};
use serde::{Deserialize, Serialize};

/// A walk that its budget cut is repeated after this: the database may have more time by then.
const LATE_FOR: Duration = Duration::from_secs(5);

/// Lineage, with walks from the cache.
pub struct CachedLineage {
    inner: Arc<dyn LineageStore>,
    cache: TieredCache,
    clock: Arc<dyn Clock>,
}

#[derive(Serialize, Deserialize)]
struct Walked {
    graph: Arc<Graph>,
    at: Timestamp,
}

impl CachedLineage {
    pub fn new(inner: Arc<dyn LineageStore>, cache: TieredCache, clock: Arc<dyn Clock>) -> Self {
        Self { inner, cache, clock }
    }
}

#[async_trait]
impl LineageStore for CachedLineage {
    async fn ingest(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested> {
        let ingested = self.inner.ingest(events, now).await;
        // After an error too: what came of the batch is not known then.
        if ingested.as_ref().map_or(true, |ingested| ingested.grew) {
            self.cache.changed(&Tag::Lineage).await;
        }
        ingested
    }

    async fn nodes(&self, keys: &[NodeKey]) -> PortResult<Vec<LineageNode>> {
        self.inner.nodes(keys).await
    }

    async fn node(&self, key: NodeKey) -> PortResult<Option<NodeDetail>> {
        self.inner.node(key).await
    }

    async fn graph(&self, walk: &Walk) -> PortResult<Option<Arc<Graph>>> {
        let (inner, clock, asked) = (Arc::clone(&self.inner), Arc::clone(&self.clock), *walk);
        let load = move || async move {
            let at = clock.now();
            Ok(inner.graph(&asked).await?.map(|graph| Walked { graph, at }))
        };
        let walked = self.cache.get(CacheName::Lineage, &key_of(walk), &[CacheTag::LINEAGE], load).await?;
        match walked {
            Some(walked) if walked.graph.late && self.is_past(walked.at) => self.inner.graph(walk).await,
            walked => Ok(walked.map(|walked| Arc::clone(&walked.graph))),
        }
    }

    async fn run(&self, id: RunId) -> PortResult<Option<RunDetail>> {
        self.inner.run(id).await
    }

    async fn search(&self, words: &[String], limit: u32) -> PortResult<Vec<LineageNode>> {
        self.inner.search(words, limit).await
    }
}

impl CachedLineage {
    fn is_past(&self, at: Timestamp) -> bool {
        at.checked_add(LATE_FOR).is_ok_and(|until| until < self.clock.now())
    }
}

/// All that a walk depends on, but for its budget, of which an instance has one.
fn key_of(walk: &Walk) -> String {
    let way = match walk.direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Both => "both",
    };
    let root: String = walk.root.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{root}:{way}:{}:{}:{}", walk.depth, walk.nodes, walk.edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_that_differ_in_anything_have_keys_of_their_own() {
        let walk = Walk {
            root: NodeKey([7; 16]),
            direction: Direction::Both,
            depth: 4,
            nodes: 5000,
            edges: 20_000,
            budget: Duration::from_secs(1),
        };
        let others = [
            Walk { root: NodeKey([8; 16]), ..walk },
            Walk { direction: Direction::Up, ..walk },
            Walk { depth: 5, ..walk },
            Walk { nodes: 100, ..walk },
            Walk { edges: 100, ..walk },
        ];
        assert!(others.iter().all(|other| key_of(other) != key_of(&walk)));
    }
}
