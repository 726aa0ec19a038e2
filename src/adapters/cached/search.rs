//! Searches: the first page of each from the cache, and a bounded number at a time in the database.
//!
//! Every published asset and every changed price invalidates all pages, at once on this instance, and through the
//! change log (or earlier through a message) on every other instance: searching again is cheap, so old results are not
//! worth showing. The cache thus serves a front page and common searches between two changes, and during constant
//! publishing the database answers, in milliseconds.
//!
//! Later pages belong to one reader each and would only evict other entries.
//!
//! Any client may search, so at most `catalogue.searches` searches run in the database at a time. Further ones wait for
//! [`PATIENCE`] and are then `Unavailable`: connections, SQLite's readers and the processor stay free for streams.
//! Cached results need no turn. A search keeps its turn until the database has finished it, even if its client has
//! left.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use penstock_actors::{
    cache::TieredCache,
    flow::admission::Admission,
    ports::{
        CacheName, CacheTag, PortError, PortResult, Search, SearchFacets, SearchFilter, SearchPage, SearchPosition,
    },
};
use serde::Serialize;

/// How long a search waits for its turn: long enough for a few others, and less than a person's patience.
const PATIENCE: Duration = Duration::from_millis(500);

/// When to retry after that.
const SOON: Duration = Duration::from_secs(1);

/// The name of this dependency in errors.
const SEARCH: &str = "the search";

/// The search, with first pages and facets from the cache.
pub struct CachedSearch {
    inner: Arc<dyn Search>,
    cache: TieredCache,
    turns: Admission,
}

impl CachedSearch {
    /// Runs as many searches at a time in the database as `turns` admits.
    pub fn new(inner: Arc<dyn Search>, cache: TieredCache, turns: Admission) -> Self {
        Self { inner, cache, turns }
    }
}

/// Waits for a turn and runs a call to its end, in a task of its own: the database continues it even if the caller has
/// left.
async fn in_turn<T, F>(turns: &Admission, call: F) -> PortResult<T>
where
    T: Send + 'static,
    F: Future<Output = PortResult<T>> + Send + 'static,
{
    let turn = turns.admit(1, PATIENCE).await.ok_or_else(|| PortError::Unavailable {
        dependency: SEARCH,
        retry_after: Some(SOON),
        source: "too many searches are under way".into(),
    })?;
    let call = tokio::spawn(async move {
        let _turn = turn;
        call.await
    });
    call.await.map_err(|error| PortError::unavailable(SEARCH, error))?
}

/// The cache key of a question: a digest, because a question may be long and contain any characters.
fn key(kind: &str, question: &impl Serialize) -> PortResult<String> {
    let question = serde_json::to_vec(question).map_err(|error| PortError::rejected("the cache", error))?;
    Ok(format!("{kind}/{}", blake3::hash(&question).to_hex()))
}

#[async_trait]
impl Search for CachedSearch {
    async fn search(
        &self,
        filter: &SearchFilter,
        behind: Option<SearchPosition>,
        limit: u32,
    ) -> PortResult<SearchPage> {
        let (inner, turns, asked) = (Arc::clone(&self.inner), self.turns.clone(), filter.clone());
        let found = async move { in_turn(&turns, async move { inner.search(&asked, behind, limit).await }).await };
        if behind.is_some() {
            return found.await;
        }
        let load = move || async move { found.await.map(Some) };
        let key = key("page", &(filter, limit))?;
        let page = self.cache.get(CacheName::Listings, &key, &[CacheTag::LISTINGS], load).await?;
        Ok(page.map(Arc::unwrap_or_clone).unwrap_or_default())
    }

    async fn facets(&self, filter: &SearchFilter, most: u32, values: u32) -> PortResult<SearchFacets> {
        let (inner, turns, asked) = (Arc::clone(&self.inner), self.turns.clone(), filter.clone());
        let load = move || async move {
            in_turn(&turns, async move { inner.facets(&asked, most, values).await.map(Some) }).await
        };
        let key = key("facets", &(filter, most, values))?;
        let facets = self.cache.get(CacheName::Listings, &key, &[CacheTag::LISTINGS], load).await?;
        Ok(facets.map(Arc::unwrap_or_clone).unwrap_or_default())
    }
}
