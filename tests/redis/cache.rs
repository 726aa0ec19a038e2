//! The caches' shared tier on Redis: the port's promises on one server and on a cluster, servers that go away and come back
//! with the past, and one query for a thousand who ask on several instances.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use penstock::{
    adapters::{
        cached::CachedAssets,
        redis::{RedisCache, RedisLink},
    },
    config::{Config, Sources},
    wiring,
};
use penstock_actors::{
    cache::{TieredCache, TieredDeps, TieredSettings},
    clock::SystemClock,
    ids::{ContentHash, KeyId, ProducerId, VersionId},
    model::{ApiKey, ContentMeta, NewAsset, NewProducer, Role},
    ports::{Assets as _, CacheName, CacheTag},
    testkit::{catalog_suite::CatalogStore, shared_cache_suite},
};
use tokio::runtime::Handle;

use crate::{
    postgres::{self, TestDatabase},
    support::{RedisCluster, RedisServer, link, settings, shared_link, until},
};

const LONGEST: Duration = Duration::from_secs(60);

fn on(link: RedisLink) -> Arc<RedisCache> {
    Arc::new(RedisCache::new(link, LONGEST))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_cache_keeps_its_promises_on_one_server() {
    let (link, _metrics) = shared_link().await;
    shared_cache_suite::run(on(link), tokio::time::sleep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_cache_keeps_its_promises_on_a_cluster() {
    let cluster = RedisCluster::start();
    let (link, _metrics) = link(settings(cluster.servers())).await;
    shared_cache_suite::run(on(link), tokio::time::sleep).await;
}

/// An instance that reads one number through its caches.
#[derive(Clone)]
struct Instance {
    cache: TieredCache,
    number: Arc<AtomicU64>,
    loads: Arc<AtomicU64>,
}

const TAG: CacheTag = CacheTag::POLICIES;

impl Instance {
    fn new(link: RedisLink, number: &Arc<AtomicU64>) -> Self {
        Self { cache: tiered(link), number: Arc::clone(number), loads: Arc::default() }
    }

    async fn read(&self, id: &str) -> u64 {
        let (number, loads) = (Arc::clone(&self.number), Arc::clone(&self.loads));
        let load = move || async move {
            loads.fetch_add(1, SeqCst);
            Ok(Some(number.load(SeqCst)))
        };
        let value = self.cache.get(CacheName::Policies, id, &[TAG], load).await.expect("never an error");
        *value.expect("there is one")
    }

    async fn write(&self, number: u64) {
        self.number.store(number, SeqCst);
        self.cache.invalidate(&[TAG]).await;
    }

    fn is_away(&self) -> bool {
        self.cache.counters().shared_away.load(SeqCst) == 1
    }

    fn shared_hits(&self) -> u64 {
        self.cache.counters().of(CacheName::Policies).shared.hits.load(SeqCst)
    }
}

/// The caches of an instance, with the defaults of the configuration, but as patient as a busy machine asks for.
fn tiered(link: RedisLink) -> TieredCache {
    let config = Config::load(&Sources::default()).expect("the defaults");
    let patient = TieredSettings { patience: Duration::from_secs(30), ..wiring::cache_settings(&config) };
    TieredCache::new(
        patient,
        TieredDeps { shared: Some(on(link)), clock: Arc::new(SystemClock), io: Handle::current() },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_killed_reads_go_on_and_afterwards_nothing_old_is_left() {
    let mut server = RedisServer::start();
    let settings = settings(server.servers());
    let number = Arc::new(AtomicU64::new(1));
    let [writer, reader] = [
        Instance::new(link(settings.clone()).await.0, &number),
        Instance::new(link(settings.clone()).await.0, &number),
    ];
    assert_eq!(writer.read("a").await, 1);
    until("it is shared", async || reader.read("a").await == 1 && reader.shared_hits() == 1).await;

    server.kill();
    for n in 0..200 {
        assert_eq!(writer.read("a").await, 1);
        assert_eq!(reader.read(&format!("new-{n}")).await, 1);
    }
    writer.write(2).await;
    assert_eq!(writer.read("a").await, 2, "who wrote reads it, whatever is down");

    server.restart();
    until("it is used again", async || !writer.is_away() && !reader.is_away()).await;
    let late = Instance::new(link(settings).await.0, &number);
    assert_eq!(writer.read("b").await, 2);
    until("it shares again", async || late.read("b").await == 2 && late.shared_hits() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_with_an_old_snapshot_serves_nothing_of_it() {
    let mut server = RedisServer::start();
    let settings = settings(server.servers());
    let number = Arc::new(AtomicU64::new(1));
    let writer = Instance::new(link(settings.clone()).await.0, &number);
    let entry = format!("{}c:policies:{{a}}", settings.key_prefix);
    let is_kept = |server: &RedisServer| -> bool {
        redis::cmd("EXISTS").arg(&entry).query(&mut server.client()).expect("an answer")
    };
    assert_eq!(writer.read("a").await, 1);
    until("it is shared", async || is_kept(&server)).await;
    redis::cmd("SAVE").exec(&mut server.client()).expect("saved");
    writer.write(2).await;
    let invalidations = || writer.cache.counters().invalidations.load(SeqCst);
    let before = invalidations();

    server.kill();
    server.restart();
    assert!(is_kept(&server), "it came back with what was valid when it was saved");
    until("the restart is noticed", async || invalidations() > before && !writer.is_away()).await;
    let late = Instance::new(link(settings).await.0, &number);
    assert_eq!(late.read("a").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_costs_loads_and_nothing_else() {
    let server = RedisServer::start();
    let settings = settings(server.servers());
    let number = Arc::new(AtomicU64::new(1));
    let writer = Instance::new(link(settings.clone()).await.0, &number);
    assert_eq!(writer.read("a").await, 1);
    server.flush();
    writer.write(2).await;
    let late = Instance::new(link(settings).await.0, &number);
    assert_eq!((late.read("a").await, writer.read("a").await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_to_several_instances_for_a_cold_asset_make_one_query() {
    let database = TestDatabase::migrated().await;
    let (store, metrics) = postgres::store(database.settings()).await;
    let store = Arc::new(store);
    let id = asset(&*store).await;
    let (redis, _metrics) = shared_link().await;
    let instances: Vec<_> =
        (0..4).map(|_| Arc::new(CachedAssets::new(store.clone(), tiered(redis.clone()), Arc::default()))).collect();
    let asking = (0..1000).map(|n| {
        let instance = Arc::clone(&instances[n % instances.len()]);
        tokio::spawn(async move { instance.asset(id).await.expect("an answer").expect("the asset").version_id })
    });
    for answer in join_all(asking).await {
        assert_eq!(answer.expect("no panic"), id);
    }
    let page = metrics.render().expect("a page");
    let queries = "penstock_db_queries_total{outcome=\"ok\",statement=\"asset\"} 1";
    assert!(page.lines().any(|line| line == queries), "{page}");
}

async fn asset(store: &impl CatalogStore) -> VersionId {
    let created_at = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
    let (producer_id, version_id) = (ProducerId::next(), VersionId::next());
    let content_hash = ContentHash::from_bytes([7; 32]);
    let key = ApiKey { key_id: KeyId::next(), producer_id, role: Role::Producer, secret_hash: [1; 32], ends_in: None };
    store.create_producer(&NewProducer { name: "Studio".into(), key, created_at }).await.expect("made");
    let meta = ContentMeta { content_hash, size_bytes: 5, media_type: "video/mp4".into(), stored_at: created_at };
    store.announce_content(&meta, producer_id).await.expect("announced");
    store.complete_content(content_hash).await.expect("completed");
    let new = NewAsset {
        version_id,
        content_hash,
        name: "A film".into(),
        description: String::new(),
        media_type: None,
        dataset_id: None,
        policy_meta: serde_json::json!({}),
        producer_id,
        price_satoshis: 100,
        created_at,
    };
    store.create_asset(&new).await.expect("made");
    version_id
}
