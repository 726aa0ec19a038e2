//! The caches against a real PostgreSQL and a real Redis: hit ratios on a skewed workload, and what Redis needs for it.
//!
//! 100,000 assets are asked for by a Zipf law (s = 1) through two instances in turns, from nothing, with the defaults of the
//! configuration. Time is simulated: with each request it moves on as the stated rate says, so that entries grow old as they
//! would. Run it by `./bench cache`.

#![allow(clippy::print_stdout, reason = "the figures are what this prints")]

#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/support/redis.rs"]
mod redis_server;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use penstock::{
    adapters::{
        cached::CachedAssets,
        redis::{RedisCache, RedisLink, RedisSettings},
    },
    config::{Config, Sources},
    wiring,
};
use penstock_actors::{
    cache::{TieredCache, TieredDeps, TieredSettings},
    clock::SystemClock,
    ids::VersionId,
    ports::{Assets, CacheName, CacheTag, SharedCache},
    testkit::clock::ManualClock,
};
use rand::{SeedableRng as _, rngs::StdRng};
use rand_distr::{Distribution as _, Zipf};
use redis_server::RedisServer;
use tokio::runtime::Handle;
use uuid::Uuid;

const ASSETS: usize = 100_000;
const INSTANCES: usize = 2;
const SEED: u64 = 42;

/// Requests under way at a time.
const AT_A_TIME: usize = 64;

/// Requests a second over all instances, and how long assets are kept. Each goes on, in simulated time, for so long that the
/// second half has entries of every age.
const RUNS: [(u64, Duration); 4] = [
    (500, Duration::from_secs(300)),
    (2_000, Duration::from_secs(300)),
    (5_000, Duration::from_secs(300)),
    (500, Duration::from_secs(3600)),
];

/// Items on the page whose compression is measured: the most that a client may ask for.
const PAGE: usize = 100;

#[tokio::main]
async fn main() {
    let database = postgres::TestDatabase::migrated().await;
    let (store, metrics) = postgres::store(database.settings()).await;
    let store: Arc<dyn Assets> = Arc::new(store);
    let ids = assets(&database.client().await).await;
    instance_memory(&ids, &store).await;
    redis_memory(&ids, &store).await;
    page(&ids, &store).await;
    many_waiting(&ids, &store).await;
    hot(&ids, &store).await;
    println!(
        "\n{:>10} {:>6} {:>9}  {:>7} {:>7} {:>7} {:>8}  {:>9} {:>10} {:>12}",
        "requests/s", "kept", "requests", "memory", "shared", "all", "settled", "queries", "Redis MiB", "wall µs each"
    );
    for (rate, ttl) in RUNS {
        let server = RedisServer::start();
        let bench = Bench::keeping(&server, &store, ttl).await;
        let before = postgres::round_trips(&metrics);
        let began = Instant::now();
        let requests = rate * ttl.as_secs() * 22 / 10;
        // The second half is what goes on; the first begins from nothing.
        let first = bench.run(&ids, requests / 2, rate, SEED).await;
        let second = bench.run(&ids, requests - requests / 2, rate, SEED + 1).await;
        let each = began.elapsed().as_micros() as f64 / requests as f64;
        let all = first.plus(second);
        let percent = |part: u64| format!("{:.2} %", part as f64 * 100.0 / all.asked as f64);
        let queries = postgres::round_trips(&metrics) - before;
        println!(
            "{rate:>10} {:>6} {requests:>9}  {:>7} {:>7} {:>7} {:>8}  {queries:>9} {:>10.1} {each:>12.1}",
            format!("{ttl:?}"),
            percent(all.memory),
            percent(all.shared),
            percent(all.memory + all.shared),
            format!("{:.2} %", second.ratio() * 100.0),
            server.used_memory() as f64 / f64::from(1 << 20),
        );
    }
}

/// Inserts the assets, with descriptions and facts of a usual size; their ids.
async fn assets(client: &tokio_postgres::Client) -> Vec<VersionId> {
    let ids: Vec<Uuid> = (0..ASSETS).map(|_| Uuid::now_v7()).collect();
    client
        .batch_execute(
            "INSERT INTO producers VALUES ('00000000-0000-7000-8000-000000000001', 'bench', now());
             INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at, stored_at)
             VALUES (sha256('bench'), 5, 'video/mp4', 'stored', '00000000-0000-7000-8000-000000000001', now(), now())",
        )
        .await
        .expect("a producer with content");
    let insert = "
        WITH made AS (
            INSERT INTO assets (version_id, content_hash, name, description, media_type, dataset_id, policy_meta, producer_id, created_at)
            SELECT id, sha256('bench'), 'Episode ' || n, 'The one in which they meet again after ' || n || ' years.', 'video/mp4',
                   'series-' || n % 100, jsonb_build_object('license', 'CC-BY-4.0', 'region', 'EU', 'rating', n % 18),
                   '00000000-0000-7000-8000-000000000001', now()
            FROM unnest($1::uuid[]) WITH ORDINALITY AS given (id, n) RETURNING version_id)
        INSERT INTO prices (version_id, satoshis, updated_at) SELECT version_id, 100, now() FROM made";
    // As they come in life: each transaction has a few.
    for some in ids.chunks(1000) {
        client.execute(insert, &[&some]).await.expect("assets");
    }
    client.batch_execute("ANALYZE").await.expect("analyzed");
    ids.into_iter().map(VersionId::from_uuid).collect()
}

/// Instances that share a Redis, and a clock that moves with the requests.
struct Bench {
    clock: Arc<ManualClock>,
    instances: Vec<(TieredCache, Arc<CachedAssets>)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    asked: u64,
    memory: u64,
    shared: u64,
}

impl Counted {
    const fn plus(self, other: Self) -> Self {
        Self { asked: self.asked + other.asked, memory: self.memory + other.memory, shared: self.shared + other.shared }
    }

    fn ratio(self) -> f64 {
        (self.memory + self.shared) as f64 / self.asked as f64
    }
}

async fn link(settings: &RedisSettings) -> RedisLink {
    redis_server::link(settings.clone()).await.0
}

fn defaults() -> TieredSettings {
    wiring::cache_settings(&Config::load(&Sources::default()).expect("the defaults"))
}

impl Bench {
    async fn new(server: &RedisServer, store: &Arc<dyn Assets>) -> Self {
        Self::keeping(server, store, defaults().ttls.assets).await
    }

    async fn keeping(server: &RedisServer, store: &Arc<dyn Assets>, ttl: Duration) -> Self {
        let mut settings = defaults();
        settings.ttls.assets = ttl;
        let clock = Arc::new(ManualClock::at("2026-11-01T10:30:00Z"));
        // One prefix for all: they share their keys.
        let redis = redis_server::settings(server.servers());
        let mut instances = Vec::new();
        for _ in 0..INSTANCES {
            let shared: Arc<dyn SharedCache> =
                Arc::new(RedisCache::new(link(&redis).await, settings.ttls.longest() + settings.stale));
            // All versions are there before the clock runs, as they are on a Redis that was used before.
            shared.invalidate(&[CacheTag::ALL]).await.expect("told");
            let deps = TieredDeps { shared: Some(shared), clock: clock.clone(), io: Handle::current() };
            let cache = TieredCache::new(settings, deps);
            let assets = Arc::new(CachedAssets::new(Arc::clone(store), cache.clone(), Arc::default()));
            instances.push((cache, assets));
        }
        Self { clock, instances }
    }

    /// Hits so far, over all instances.
    fn counted(&self) -> Counted {
        let of = |(cache, _): &(TieredCache, _)| {
            let counters = cache.counters().of(CacheName::Assets);
            let [hits, misses] = [&counters.memory.hits, &counters.memory.misses].map(|counter| counter.load(Relaxed));
            Counted { asked: hits + misses, memory: hits, shared: counters.shared.hits.load(Relaxed) }
        };
        self.instances.iter().map(of).fold(Counted::default(), Counted::plus)
    }

    async fn run(&self, ids: &[VersionId], requests: u64, rate: u64, seed: u64) -> Counted {
        let zipf = Zipf::new(ids.len() as f64, 1.0).expect("a law");
        let mut random = StdRng::seed_from_u64(seed);
        let before = self.counted();
        let asked = (0..requests).map(|n| {
            self.clock.advance(Duration::from_nanos(1_000_000_000 / rate));
            let id = ids[zipf.sample(&mut random) as usize - 1];
            let (_, assets) = &self.instances[n as usize % INSTANCES];
            async move { assets.asset(id).await.expect("an answer").expect("the asset") }
        });
        stream::iter(asked).buffer_unordered(AT_A_TIME).for_each(|_| std::future::ready(())).await;
        let after = self.counted();
        Counted {
            asked: after.asked - before.asked,
            memory: after.memory - before.memory,
            shared: after.shared - before.shared,
        }
    }

    async fn ask_each(&self, ids: &[VersionId]) {
        let (_, assets) = &self.instances[0];
        let asked = ids.iter().map(|id| async move { assets.asset(*id).await.expect("an answer") });
        stream::iter(asked).buffer_unordered(AT_A_TIME).for_each(|_| std::future::ready(())).await;
        // Values are kept after they were answered.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What an instance needs for entries that are all kept, by its resident memory.
async fn instance_memory(ids: &[VersionId], store: &Arc<dyn Assets>) {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says it");
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        pages * 4096
    };
    let settings = TieredSettings { memory: 1 << 30, ..defaults() };
    let deps = TieredDeps { shared: None, clock: Arc::new(SystemClock), io: Handle::current() };
    let cache = TieredCache::new(settings, deps);
    let assets = CachedAssets::new(Arc::clone(store), cache.clone(), Arc::default());
    let ask = async |ids: &[VersionId]| {
        let asked = ids.iter().map(|id| async { assets.asset(*id).await.expect("an answer") });
        stream::iter(asked).buffer_unordered(AT_A_TIME).for_each(|_| std::future::ready(())).await;
        cache.settle();
    };
    // What connections and tasks take is there before.
    ask(&ids[..ASSETS / 4]).await;
    let before = resident();
    ask(&ids[ASSETS / 4..]).await;
    let kept = (ASSETS - ASSETS / 4) as f64;
    let weight = cache.counters().of(CacheName::Assets).bytes.load(Relaxed) as f64 / ASSETS as f64;
    println!(
        "an asset in an instance: {:.0} bytes resident, counted as {weight:.0}",
        (resident() - before) as f64 / kept
    );
}

/// How far a page of assets is compressed in Redis.
async fn page(ids: &[VersionId], store: &Arc<dyn Assets>) {
    let items = join_all(ids[..PAGE].iter().map(|id| store.asset(*id))).await;
    let items: Vec<_> = items.into_iter().map(|item| item.expect("an answer").expect("the asset")).collect();
    let plain = serde_json::to_vec(&items).expect("as JSON");
    let compressed = zstd::bulk::compress(&plain, 1).expect("compressed");
    println!("a page of {PAGE} assets: {} bytes of JSON, {} compressed", plain.len(), compressed.len());
}

/// What Redis needs for entries that are all kept.
async fn redis_memory(ids: &[VersionId], store: &Arc<dyn Assets>) {
    let mut memory = Vec::new();
    for kept in [0, ASSETS / 4, ASSETS] {
        let server = RedisServer::start();
        let bench = Bench::new(&server, store).await;
        bench.ask_each(&ids[..kept]).await;
        memory.push((kept, server.used_memory()));
    }
    println!("Redis memory for entries of assets, all of them kept:");
    for (kept, bytes) in &memory {
        println!("{kept:>8} assets: {:>7.1} MiB", *bytes as f64 / f64::from(1 << 20));
    }
    let slope = (memory[2].1 - memory[0].1) as f64 / ASSETS as f64;
    println!("slope: {slope:.0} bytes for each asset, its tag included");
}

/// 1,000 who ask for one cold asset at once, several times over.
async fn many_waiting(ids: &[VersionId], store: &Arc<dyn Assets>) {
    let server = RedisServer::start();
    let bench = Bench::new(&server, store).await;
    let mut took = Vec::new();
    for id in &ids[..20] {
        let began = Instant::now();
        let asked = (0..1000).map(|n| {
            let (assets, id) = (Arc::clone(&bench.instances[n % INSTANCES].1), *id);
            tokio::spawn(async move { assets.asset(id).await.expect("an answer") })
        });
        join_all(asked).await;
        took.push(began.elapsed());
    }
    took.sort();
    let loads: u64 =
        bench.instances.iter().map(|(cache, _)| cache.counters().of(CacheName::Assets).loads.load(Relaxed)).sum();
    println!(
        "\n1,000 ask for one cold asset at once, on {INSTANCES} instances, 20 times: {loads} queries, median {:.1} ms",
        took[took.len() / 2].as_secs_f64() * 1000.0
    );
}

/// What an answer costs that is in memory, or only in Redis.
async fn hot(ids: &[VersionId], store: &Arc<dyn Assets>) {
    const ROUNDS: u32 = 500_000;
    let server = RedisServer::start();
    let bench = Bench::new(&server, store).await;
    let (_, assets) = &bench.instances[0];
    assets.asset(ids[0]).await.expect("an answer");
    let began = Instant::now();
    for _ in 0..ROUNDS {
        assets.asset(ids[0]).await.expect("an answer");
    }
    println!("an asset from memory: {:.2} µs", began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    bench.ask_each(&ids[..5000]).await;
    let (_, other) = &bench.instances[1];
    let began = Instant::now();
    for id in &ids[1..5000] {
        other.asset(*id).await.expect("an answer");
    }
    println!("an asset from Redis, one at a time: {:.0} µs", began.elapsed().as_secs_f64() * 1e6 / 4999.0);
}
