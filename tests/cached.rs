//! The caches before the database: what is asked of it, and what is never served.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use penstock::{
    adapters::{
        cached::{
            CachedAssets, CachedGovernancePolicies, CachedLineage, CachedLineageGraphUpkeep, CachedReceipts,
            CachedSearch,
        },
        sqlite::{SqliteSettings, SqliteStore, migrate},
    },
    config::{Config, Sources},
    telemetry::Metrics,
    wiring,
};
use penstock_actors::{
    cache::{TieredCache, TieredDeps},
    clock::SystemClock,
    flow::admission::Admission,
    governance::GovernancePolicy,
    ids::{ContentHash, KeyId, ProducerId, ReceiptId, VersionId},
    lineage::event::{EventBounds, read},
    model::{
        ApiKey, ContentMeta, Direction, EventKind, GraphWalk, LineageEvent, NewAsset, NewProducer, NodeName,
        QuotaPolicy, ReceiptStatus, Role,
    },
    ports::{
        ApiKeys as _, Assets as _, ContentIndex as _, GovernancePolicies as _, LeasedTask, LineageGraphUpkeep as _,
        LineageStore as _, NewReceipt, PortError, PortResult, Receipts, Search, SearchFacets, SearchFilter, SearchPage,
        SearchPosition, StatusChange, Tag, TaskLeases as _,
    },
    search::MatchedField,
    testkit::{catalog_suite, governance_suite},
};
use tempfile::TempDir;
use tokio::sync::Notify;

struct Scene {
    _folder: TempDir,
    metrics: Metrics,
    store: Arc<SqliteStore>,
    cache: TieredCache,
    assets: Arc<CachedAssets>,
    receipts: CachedReceipts,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("penstock.db");
        let settings = SqliteSettings { path, readers: 2, busy_timeout: Duration::from_secs(10) };
        migrate(&settings).expect("migrations");
        let metrics = Metrics::new().expect("metrics");
        let store = Arc::new(SqliteStore::open(&settings, Arc::clone(&metrics.db)).expect("an open store"));
        let config = Config::load(&Sources::default()).expect("the defaults");
        let io = tokio::runtime::Handle::current();
        let deps = TieredDeps { shared: None, clock: Arc::new(SystemClock), io };
        let cache = TieredCache::new(wiring::cache_settings(&config), deps);
        metrics.observe_cache(cache.clone()).expect("not shown yet");
        let assets = Arc::new(CachedAssets::new(store.clone(), cache.clone(), Arc::default()));
        let receipts = CachedReceipts::new(store.clone(), cache.clone());
        Self { _folder: folder, metrics, store, cache, assets, receipts }
    }

    fn policies(&self) -> Arc<CachedGovernancePolicies> {
        Arc::new(CachedGovernancePolicies::new(self.store.clone(), self.cache.clone()))
    }

    /// Round trips of a statement.
    fn asked(&self, statement: &str) -> u64 {
        let page = self.metrics.render().expect("a page");
        let line = format!("penstock_db_queries_total{{outcome=\"ok\",statement=\"{statement}\"}} ");
        page.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().expect("a number"))
    }

    /// A stored content with an asset.
    async fn asset(&self) -> VersionId {
        let created_at = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
        let (producer_id, version_id) = (ProducerId::next(), VersionId::next());
        let content_hash = ContentHash::from_bytes([7; 32]);
        let key =
            ApiKey { key_id: KeyId::next(), producer_id, role: Role::Producer, secret_hash: [1; 32], ends_in: None };
        self.store.create_producer(&NewProducer { name: "Studio".into(), key, created_at }).await.expect("made");
        let media_type = "video/mp4".to_owned();
        let meta = ContentMeta { content_hash, size_bytes: 5, media_type, stored_at: created_at };
        self.store.announce_content(&meta, producer_id).await.expect("announced");
        self.store.complete_content(content_hash).await.expect("completed");
        let new = NewAsset {
            version_id,
            content_hash,
            name: "A film".into(),
            description: String::new(),
            media_type: None,
            dataset_id: None,
            policy_meta: serde_json::json!({ "deep": [1, { "a": null }] }),
            producer_id,
            price_satoshis: 100,
            created_at,
        };
        self.assets.create_asset(&new).await.expect("made");
        version_id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_through_the_cache_keep_the_promises_of_their_port() {
    let scene = Scene::new();
    catalog_suite::run_assets(&*scene.assets, &*scene.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn governance_through_the_cache_keeps_the_promises_of_its_port() {
    let scene = Scene::new();
    governance_suite::run(scene.policies()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_asked_for_again_and_again_is_read_once_until_it_changes() {
    let scene = Scene::new();
    let (policies, id) = (scene.policies(), "house".parse().expect("an id"));
    let now = jiff::Timestamp::from_second(1_800_000_001).expect("a time");
    let document =
        |text: &str| GovernancePolicy::read(serde_json::json!({ "description": text, "rules": [] })).expect("a policy");
    assert_eq!(policies.document(&id).await.expect("an answer"), None);
    for (version, text) in [(1, "one"), (2, "two")] {
        policies.put_document(&id, &document(text), now).await.expect("put");
        let before = scene.asked("document");
        for _ in 0..10 {
            let read = policies.document(&id).await.expect("an answer").expect("the policy");
            assert_eq!((read.version, read.policy.description()), (version, Some(text)));
        }
        assert_eq!(scene.asked("document") - before, 1);
    }
    // Behind its back, as on another instance.
    scene.store.put_document(&id, &document("three"), now).await.expect("put");
    scene.cache.heard(Some(&Tag::Governance(id.clone())));
    assert_eq!(policies.document(&id).await.expect("an answer").map(|read| read.version), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_for_a_cold_asset_make_one_query() {
    let scene = Scene::new();
    let id = scene.asset().await;
    let asking = (0..1000).map(|_| {
        let assets = Arc::clone(&scene.assets);
        tokio::spawn(async move { assets.asset(id).await.expect("an answer").expect("the asset") })
    });
    let expected = scene.store.asset(id).await.expect("an answer").expect("the asset");
    let before = scene.asked("asset");
    for asset in join_all(asking).await {
        assert_eq!(asset.expect("no panic"), expected);
    }
    assert_eq!(scene.asked("asset") - before, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_sees_its_change_with_the_next_read() {
    let scene = Scene::new();
    let id = scene.asset().await;
    let now = jiff::Timestamp::from_second(1_800_000_001).expect("a time");
    let price = async || scene.assets.asset(id).await.expect("an answer").expect("the asset").price_satoshis;
    for satoshis in [100, 200, 300] {
        assert!(scene.assets.set_price(id, satoshis, None, now).await.expect("set"));
        assert_eq!(price().await, satoshis);
        let before = scene.asked("asset");
        assert_eq!(price().await, satoshis);
        assert_eq!(scene.asked("asset"), before, "the second read is from memory");
    }

    let receipt_id = ReceiptId::random();
    assert_eq!(scene.receipts.receipt(receipt_id).await.expect("an answer"), None);
    let new = NewReceipt {
        receipt_id,
        version_id: id,
        quota_tier: "standard".into(),
        status: ReceiptStatus::Confirmed,
        expires_at: now,
        created_at: now,
    };
    let made = scene.receipts.create_receipt(&new).await.expect("made");
    for _ in 0..2 {
        assert_eq!(scene.receipts.receipt(receipt_id).await.expect("an answer").as_ref(), Some(&made));
    }
    let change = scene.receipts.set_receipt_status(receipt_id, ReceiptStatus::Refunded, now).await.expect("changed");
    let StatusChange::Changed(changed) = change else { panic!("{change:?}") };
    assert!(changed.epoch > made.epoch);
    assert_eq!(scene.receipts.receipt(receipt_id).await.expect("an answer"), Some(changed));

    let policy = QuotaPolicy { policy_name: "gold".into(), bytes_per_day: Some(5), ..QuotaPolicy::default() };
    let before = scene.receipts.policies().await.expect("policies").len();
    assert!(scene.receipts.put_quota_policy(&policy, now).await.expect("put"));
    let policies = scene.receipts.policies().await.expect("policies");
    assert_eq!(policies.len(), before + 1);
    assert!(policies.contains(&policy));
    assert_eq!(policies, scene.store.policies().await.expect("policies"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_behind_its_back_shows_once_the_node_hears_of_it() {
    let scene = Scene::new();
    let id = scene.asset().await;
    let now = jiff::Timestamp::from_second(1_800_000_001).expect("a time");
    let price = async || scene.assets.asset(id).await.expect("an answer").expect("the asset").price_satoshis;
    assert_eq!(price().await, 100);
    scene.store.set_price(id, 200, None, now).await.expect("set");
    assert_eq!(price().await, 100, "nobody has told");
    scene.cache.heard(Some(&Tag::Asset(id)));
    assert_eq!(price().await, 200);
    scene.store.set_price(id, 300, None, now).await.expect("set");
    scene.cache.heard(None);
    assert_eq!(price().await, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caches_show_what_they_do() {
    let scene = Scene::new();
    let id = scene.asset().await;
    for _ in 0..3 {
        scene.assets.asset(id).await.expect("an answer");
    }
    let page = scene.metrics.render().expect("a page");
    for line in [
        "penstock_cache_hits_total{cache=\"assets\",tier=\"memory\"} 2",
        "penstock_cache_misses_total{cache=\"assets\",tier=\"memory\"} 1",
        "penstock_cache_loads_total{cache=\"assets\",outcome=\"begun\"} 1",
        "penstock_cache_entries{cache=\"assets\"} 1",
        "penstock_cache_stale_total{cache=\"receipts\"} 0",
        "penstock_cache_shared_away 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_was_found_is_shown_until_the_catalogue_changes() {
    let scene = Scene::new();
    let search = CachedSearch::new(scene.store.clone(), scene.cache.clone(), Admission::new("searches", 1));
    let all = SearchFilter::default();
    let listed = async || search.search(&all, None, 10).await.expect("a page").hits.len();
    assert_eq!(listed().await, 0);
    let id = scene.asset().await;
    assert_eq!(listed().await, 1, "what was published is there with the next search");
    let before = scene.asked("search");
    assert_eq!(listed().await, 1);
    assert_eq!(scene.asked("search"), before, "the next one is from memory");
    let counted = async || search.facets(&all, 10, 10).await.expect("facets").counted;
    assert_eq!((counted().await, counted().await), (1, 1));
    assert_eq!(scene.asked("search_facets"), 1);

    let now = jiff::Timestamp::from_second(1_800_000_001).expect("a time");
    scene.assets.set_price(id, 777, None, now).await.expect("set");
    assert_eq!(search.search(&all, None, 10).await.expect("a page").hits[0].asset.price_satoshis, 777);
    // Elsewhere, an instance hears of it.
    let before = scene.asked("search");
    scene.cache.heard(Some(&Tag::Asset(VersionId::next())));
    assert_eq!(listed().await, 1);
    assert_eq!(scene.asked("search"), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_waits_for_a_permit_and_a_cached_answer_does_not() {
    let scene = Scene::new();
    let turns = Admission::new("searches", 1);
    let search = CachedSearch::new(scene.store.clone(), scene.cache.clone(), turns.clone());
    let dear = SearchFilter { min_price: Some(1), ..SearchFilter::default() };
    search.search(&dear, None, 10).await.expect("a page");
    let taken = turns.try_admit(1).expect("nobody searches");
    search.search(&dear, None, 10).await.expect("the same page, from memory");
    let refused = search.search(&SearchFilter::default(), None, 10).await;
    assert!(matches!(refused, Err(PortError::Unavailable { retry_after: Some(_), .. })), "{refused:?}");
    drop(taken);
    search.search(&SearchFilter { min_price: Some(2), ..dear }, None, 10).await.expect("its turn");
}

/// A database that is done with a search when it is told so, and says when it has begun one.
#[derive(Default)]
struct Slow {
    begun: Notify,
    done: Notify,
}

#[async_trait]
impl Search for Slow {
    async fn search(&self, _: &SearchFilter, _: Option<SearchPosition>, _: u32) -> PortResult<SearchPage> {
        self.begun.notify_one();
        self.done.notified().await;
        Ok(SearchPage::default())
    }

    async fn facets(&self, _: &SearchFilter, _: u32, _: u32) -> PortResult<SearchFacets> {
        self.begun.notify_one();
        self.done.notified().await;
        Ok(SearchFacets::default())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_whose_client_has_left_keeps_its_turn_until_the_database_is_done() {
    let mut config = Config::load(&Sources::default()).expect("the defaults");
    // Nothing is cached, so that every question is the database's.
    config.cache.listings_ttl = Duration::ZERO;
    let deps = TieredDeps { shared: None, clock: Arc::new(SystemClock), io: tokio::runtime::Handle::current() };
    let cache = TieredCache::new(wiring::cache_settings(&config), deps);
    let (slow, turns) = (Arc::new(Slow::default()), Admission::new("searches", 1));
    let search = CachedSearch::new(slow.clone(), cache, turns.clone());
    let filter = SearchFilter::default();
    let place = SearchPosition { newest: 1, found: MatchedField::PolicyMeta, number: 1 };
    let questions: [BoxFuture<'_, ()>; 3] = [
        search.search(&filter, None, 10).map(drop).boxed(),
        search.search(&filter, Some(place), 10).map(drop).boxed(),
        search.facets(&filter, 10, 10).map(drop).boxed(),
    ];
    for question in questions {
        tokio::select! {
            () = question => panic!("it was not done"),
            () = slow.begun.notified() => {}
        }
        assert_eq!(turns.in_use(), 1, "the client has left, and the database works on");
        slow.done.notify_one();
        turns.admit(1, Duration::from_secs(60)).await.expect("its turn has come back");
    }
}

/// A job that was seen at `time`, with what it reads.
fn job_event(time: &str) -> LineageEvent {
    let body = serde_json::json!({
        "eventTime": time, "job": { "namespace": "etl", "name": "load" }, "inputs": [{ "namespace": "db", "name": "in" }],
    });
    let bounds = Config::load(&Sources::default()).expect("the defaults").lineage.bounds();
    let bounds = EventBounds { window: Duration::from_hours(24 * 365 * 50), ..bounds };
    read(EventKind::Job, &body, body.to_string(), &bounds, jiff::Timestamp::now()).expect("an event")
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_lineage_leaves_the_cached_walks() {
    let scene = Scene::new();
    let lineage = CachedLineage::new(scene.store.clone(), scene.cache.clone());
    let graph = CachedLineageGraphUpkeep::new(scene.store.clone(), scene.cache.clone());
    let event = job_event("2026-01-01T00:00:00Z");
    lineage.ingest(&[event], jiff::Timestamp::now()).await.expect("kept");
    let walk = GraphWalk {
        root: NodeName::job("etl", "load").key(),
        direction: Direction::Both,
        depth: 1,
        nodes: 10,
        edges: 10,
        budget: Duration::from_secs(10),
    };
    let edges = async || lineage.graph(&walk).await.expect("asked").map(|graph| graph.edges.len());
    assert_eq!((edges().await, edges().await), (Some(1), Some(1)));
    assert_eq!(scene.asked("lineage_graph"), 1);
    let lease = scene.store.acquire(LeasedTask::PruneLineage, uuid::Uuid::nil(), Duration::from_secs(60)).await;
    let lease = lease.expect("asked").expect("free");
    let day = |text: &str| text.parse().expect("a day");
    assert_eq!(graph.prune_edges(lease, day("2026-01-01"), 10).await.expect("a step"), 0);
    assert_eq!((edges().await, scene.asked("lineage_graph")), (Some(1), 1), "nothing has left");
    assert_eq!(graph.prune_edges(lease, day("2026-01-02"), 10).await.expect("a step"), 1);
    assert_eq!(edges().await, Some(0));
    assert_eq!(graph.prune_nodes(lease, day("2026-01-02"), 10).await.expect("a step"), 2);
    assert_eq!(edges().await, None);
}
