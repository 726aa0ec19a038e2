//! Walks through the lineage graph, by their parameters.
//!
//! All of them depend on one tag. It is invalidated when a job, a dataset or an edge is added to the graph or removed
//! from it, so that this is visible at once; counts and times of last use may be as old as the cache's entries. Events
//! that only confirm the graph, as most do, invalidate nothing. A walk that its time budget cut is valid for a moment
//! only; then the next reader starts another walk, and until it has ended, all readers get the cut result.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    ids::RunId,
    model::{Direction, Graph, GraphWalk, LineageEvent, LineageNode, NodeDetail, NodeKey, RunDetail},
    ports::{CacheName, CacheTag, Ingested, LineageStore, PortResult, Tag},
};

/// How long a walk that its time budget cut is valid: the database may have more time by then.
const LATE_FOR: Duration = Duration::from_secs(5);

/// Lineage, with walks from the cache.
pub struct CachedLineage {
    inner: Arc<dyn LineageStore>,
    cache: TieredCache,
}

impl CachedLineage {
    pub fn new(inner: Arc<dyn LineageStore>, cache: TieredCache) -> Self {
        Self { inner, cache }
    }
}

#[async_trait]
impl LineageStore for CachedLineage {
    async fn ingest(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested> {
        let ingested = self.inner.ingest(events, now).await;
        // Also after an error: it is unknown then what was stored.
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

    async fn graph(&self, walk: &GraphWalk) -> PortResult<Option<Arc<Graph>>> {
        let (inner, asked) = (Arc::clone(&self.inner), *walk);
        let load = move || async move { inner.graph(&asked).await };
        let good_for = |graph: &Arc<Graph>| if graph.late { LATE_FOR } else { Duration::MAX };
        let (key, tags) = (key_of(walk), [CacheTag::LINEAGE]);
        let walked = self.cache.get_with_ttl(CacheName::Lineage, &key, &tags, good_for, load).await?;
        Ok(walked.map(Arc::unwrap_or_clone))
    }

    async fn run(&self, id: RunId) -> PortResult<Option<RunDetail>> {
        self.inner.run(id).await
    }

    async fn search(&self, words: &[String], limit: u32) -> PortResult<Vec<LineageNode>> {
        self.inner.search(words, limit).await
    }
}

/// All parameters of a walk except its time budget, which is the same for the whole instance.
fn key_of(walk: &GraphWalk) -> String {
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
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use futures::future::join_all;
    use penstock_actors::{
        cache::{CacheTtls, TieredDeps, TieredSettings},
        testkit::clock::ManualClock,
    };

    use super::*;

    const WALK: GraphWalk = GraphWalk {
        root: NodeKey([7; 16]),
        direction: Direction::Both,
        depth: 4,
        nodes: 5000,
        edges: 20_000,
        budget: Duration::from_secs(1),
    };

    /// A graph whose walks exceed their time budget while `late` holds.
    #[derive(Default)]
    struct Slow {
        walks: AtomicU64,
        late: u64,
    }

    #[async_trait]
    impl LineageStore for Slow {
        async fn ingest(&self, _: &[LineageEvent], _: Timestamp) -> PortResult<Ingested> {
            Ok(Ingested::default())
        }

        async fn nodes(&self, _: &[NodeKey]) -> PortResult<Vec<LineageNode>> {
            Ok(Vec::new())
        }

        async fn node(&self, _: NodeKey) -> PortResult<Option<NodeDetail>> {
            Ok(None)
        }

        async fn graph(&self, _: &GraphWalk) -> PortResult<Option<Arc<Graph>>> {
            let late = self.walks.fetch_add(1, SeqCst) < self.late;
            tokio::task::yield_now().await;
            Ok(Some(Arc::new(Graph { nodes: Vec::new(), edges: Vec::new(), truncated: late, late })))
        }

        async fn run(&self, _: RunId) -> PortResult<Option<RunDetail>> {
            Ok(None)
        }

        async fn search(&self, _: &[String], _: u32) -> PortResult<Vec<LineageNode>> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn a_walk_that_was_cut_by_its_budget_is_repeated_once_however_many_ask() {
        let (clock, ttl) = (Arc::new(ManualClock::at("2026-11-01T10:30:00Z")), Duration::from_secs(600));
        let settings = TieredSettings {
            memory: 1 << 20,
            ttls: CacheTtls { assets: ttl, listings: ttl, lineage: ttl, policies: ttl, receipts: ttl, identities: ttl },
            stale: Duration::from_secs(30),
            negative_ttl: ttl,
            patience: ttl,
        };
        let deps = TieredDeps { shared: None, clock: clock.clone(), io: tokio::runtime::Handle::current() };
        let store = Arc::new(Slow { late: 2, ..Slow::default() });
        let lineage = CachedLineage::new(store.clone(), TieredCache::new(settings, deps));
        let ask = async || {
            let asked = join_all((0..50).map(|_| lineage.graph(&WALK))).await;
            asked.into_iter().map(|graph| graph.expect("an answer").expect("a graph")).collect::<Vec<_>>()
        };
        let mut last = ask().await.swap_remove(0);
        for walks in [1, 2] {
            assert_eq!((last.late, store.walks.load(SeqCst)), (true, walks));
            assert!(ask().await.iter().all(|graph| Arc::ptr_eq(graph, &last)));
            clock.advance(LATE_FOR);
            // Readers get the previous result meanwhile.
            while Arc::ptr_eq(&ask().await[0], &last) {
                tokio::task::yield_now().await;
            }
            last = ask().await.swap_remove(0);
        }
        clock.advance(LATE_FOR * 10);
        assert!(ask().await.iter().all(|graph| Arc::ptr_eq(graph, &last) && !graph.late));
        assert_eq!(store.walks.load(SeqCst), 3, "a whole one stays");
    }

    #[test]
    fn walks_that_differ_in_anything_have_keys_of_their_own() {
        let walk = WALK;
        let others = [
            GraphWalk { root: NodeKey([8; 16]), ..walk },
            GraphWalk { direction: Direction::Up, ..walk },
            GraphWalk { depth: 5, ..walk },
            GraphWalk { nodes: 100, ..walk },
            GraphWalk { edges: 100, ..walk },
        ];
        assert!(others.iter().all(|other| key_of(other) != key_of(&walk)));
    }
}
