//! Rate limits on several instances and one Redis: one limit, whoever is asked; a share for each while Redis is away; and one limit
//! again afterwards.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::{Duration, Instant},
};

use futures::{
    future::join_all,
    stream::{self, StreamExt as _},
};

use crate::{
    node::{Setup, TestNode, expect_problem},
    postgres::TestDatabase,
    shared_redis::{RedisServer, until},
};

/// Nobody has it, so it costs one look-up.
const ASSET: &str = "/v1/assets/67e55044-10b1-426f-9247-bb680e5fe0c8";

/// Requests per minute.
const LIMIT: u32 = 120;

/// Three instances behind a proxy, which is this test.
struct Three {
    redis: RedisServer,
    nodes: Vec<TestNode>,
    _database: TestDatabase,
}

impl Three {
    async fn start() -> Self {
        let (redis, database) = (RedisServer::start(), TestDatabase::empty().await);
        let setup = || {
            Setup::on_database_of(&database.url())
                .env("REDIS_URL", redis.url())
                .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "1s")
                .env("RATE_LIMITS_JSON", format!(r#"{{"catalogue":{LIMIT}}}"#))
                .env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1")
                .env("PENSTOCK_QUOTA__LEASE_TTL", "60s")
                .env("PENSTOCK_QUOTA__HEARTBEAT", "1s")
                .env("PG_POOL_MIN", "1")
                .env("PG_POOL_MAX", "4")
                .start()
        };
        let mut nodes = vec![setup().await];
        nodes.extend(join_all([setup(), setup()]).await);
        for node in &nodes {
            node.metric_becomes("penstock_instances", "", 3.0).await;
        }
        Self { redis, nodes, _database: database }
    }

    async fn metric(&self, name: &str, labels: &str) -> f64 {
        join_all(self.nodes.iter().map(|node| node.metric(name, labels))).await.iter().sum()
    }

    async fn finish(mut self) {
        for node in &mut self.nodes {
            node.finish().await;
        }
    }
}

/// A request of a client; whether it was let in.
async fn ask(node: &TestNode, client: &str) -> bool {
    let answer = node.get(ASSET).header("x-forwarded-for", client).send().await.expect("an answer");
    let policy = answer.headers()["ratelimit-policy"].to_str().expect("text");
    assert_eq!(policy, format!("\"catalogue\";q={LIMIT};w=60"));
    if answer.status() == 404 {
        return true;
    }
    let problem = expect_problem(answer, 429, "rate-limited").await;
    assert_eq!(problem["remaining"], 0, "{problem}");
    assert!(problem["retryAfter"].as_u64().is_some_and(|seconds| (1..=120).contains(&seconds)), "{problem}");
    false
}

/// So many requests of a client, several at a time, at the instances in turn: how many were let in, and the most that may have
/// been. A window of one minute may end meanwhile, and then what has slid out of it comes back.
async fn hammer(nodes: &[&TestNode], client: &str, requests: usize, limit: u32) -> (u32, u32) {
    let (began, allowed) = (Instant::now(), AtomicU32::new(0));
    stream::iter(0..requests)
        .for_each_concurrent(16, async |turn| {
            allowed.fetch_add(u32::from(ask(nodes[turn % nodes.len()], client).await), SeqCst);
        })
        .await;
    let slid_out = f64::from(limit) * began.elapsed().as_secs_f64() / 60.0;
    (allowed.into_inner(), limit + slid_out.ceil() as u32 + 1)
}

/// Waits until an instance counts in this way; each try is a client of its own.
async fn counts_by(node: &TestNode, backend: &str) {
    let labels = format!("backend=\"{backend}\"");
    let tries = AtomicU32::new(0);
    until(backend, async || {
        let before = node.metric("penstock_rate_limit_checks_total", &labels).await;
        let client = format!("198.51.100.{}", tries.fetch_add(1, SeqCst) % 250);
        ask(node, &client).await;
        node.metric("penstock_rate_limit_checks_total", &labels).await > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_limit_holds_on_all_instances_and_a_share_on_each_while_redis_is_away() {
    let mut three = Three::start().await;
    let nodes: Vec<_> = three.nodes.iter().collect();

    let (allowed, most) = hammer(&nodes, "203.0.113.1", 600, LIMIT).await;
    assert!((LIMIT * 3 / 4..=most).contains(&allowed), "{allowed} of {LIMIT}");
    // On one instance alone, after the others have taken some ahead.
    let (elsewhere, _) = hammer(&nodes[1..], "203.0.113.2", 2, LIMIT).await;
    let (allowed, most) = hammer(&nodes[..1], "203.0.113.2", 300, LIMIT).await;
    assert!((LIMIT * 3 / 4..=most).contains(&(allowed + elsewhere)), "{allowed} and {elsewhere} of {LIMIT}");
    let (allowed, _) = hammer(&nodes, "203.0.113.3", 50, LIMIT).await;
    assert_eq!(allowed, 50, "clients are counted by themselves");
    let trips = three.metric("penstock_redis_commands_total", "rate_take").await;
    let checks = three.metric("penstock_rate_limit_checks_total", "backend=\"redis\"").await;
    assert!(checks >= 952.0 && trips < checks / 2.0, "{trips} round trips for {checks} checks");

    three.redis.kill();
    for (number, node) in three.nodes.iter().enumerate() {
        counts_by(node, "alone").await;
        let share = LIMIT / 3;
        let (allowed, most) = hammer(&[node], "203.0.113.4", 100, share).await;
        assert!((share..=most).contains(&allowed), "{allowed} of {share} at {number}");
    }

    three.redis.restart();
    for node in &three.nodes {
        counts_by(node, "redis").await;
    }
    let nodes: Vec<_> = three.nodes.iter().collect();
    let (allowed, most) = hammer(&nodes, "203.0.113.5", 400, LIMIT).await;
    assert!((LIMIT * 3 / 4..=most).contains(&allowed), "{allowed} of {LIMIT}");
    three.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_refuses_no_request_and_is_used_again_when_it_answers() {
    let three = Three::start().await;
    counts_by(&three.nodes[0], "redis").await;
    three.redis.pause();
    // The first one waits once for Redis; all of them get their answer.
    let (allowed, _) = hammer(&[&three.nodes[0]], "203.0.113.1", 30, LIMIT / 3).await;
    assert_eq!(allowed, 30);
    counts_by(&three.nodes[0], "alone").await;
    three.redis.resume();
    counts_by(&three.nodes[0], "redis").await;
    three.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_client_hardly_ever_ask_redis() {
    let (redis, database) = (RedisServer::start(), TestDatabase::empty().await);
    let mut node = Setup::on_database_of(&database.url()).env("REDIS_URL", redis.url()).start().await;
    let paid = node.paid(b"content", "unlimited").await;
    let streams = stream::iter(0..300_u32).for_each_concurrent(8, async |_| {
        let answer = node.stream(&paid).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert!(answer.headers()["ratelimit"].to_str().expect("text").starts_with("\"streaming\";r="));
        assert_eq!(answer.bytes().await.expect("all of it"), "content");
    });
    tokio::time::timeout(Duration::from_secs(120), streams).await.expect("in time");
    let trips = node.metric("penstock_redis_commands_total", "rate_take").await;
    // One for each class that was called, and again where a minute has ended.
    assert!(trips <= 12.0, "{trips} round trips");
    node.finish().await;
}
