//! Redis that is killed, restarted, paused and flushed under load: streams go on, and nothing is left over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use futures::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};

use crate::{
    node::{On, Paid, Setup, TestNode, expect, expect_problem, sample},
    patience::eventually,
    postgres::TestDatabase,
    redis_server::RedisServer,
    still::{at_rest, bytes_of, usage_rows},
    wire::Wire,
};

/// A node on a Redis of its own.
fn on_redis(server: &RedisServer) -> Setup {
    Setup::new(On::Sqlite)
        .env("REDIS_URL", server.url())
        // A busy machine may take longer than the default allows; where a test wants a time-out, it waits for it.
        .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "2s")
        .env("PENSTOCK_REDIS__BREAKER_PERIOD", "200ms")
}

/// Keys of stream slots that there are in Redis.
fn slot_keys(server: &RedisServer) -> usize {
    let keys: Vec<String> = redis::cmd("KEYS").arg("penstock:*:slots:*").query(&mut server.client()).expect("listed");
    keys.len()
}

async fn ready(node: &TestNode) -> Value {
    expect(node.get("/health/ready").send().await.unwrap(), &[200]).await
}

async fn says(node: &TestNode, shared_state: &str) {
    eventually("readiness says the truth", async || ready(node).await["dependencies"]["sharedState"] == shared_state)
        .await;
    assert_eq!(ready(node).await["status"], if shared_state == "ok" { "ok" } else { "degraded" });
}

/// Streams until told to stop; all of them must be served whole.
async fn stream_on(node: &TestNode, paid: &Paid, bytes: &[u8], served: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let answer = node.stream(paid).send().await.unwrap();
        assert_eq!(answer.status(), 200, "stream {}", served.load(Relaxed));
        assert_eq!(answer.bytes().await.unwrap(), bytes);
        served.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_whatever_becomes_of_redis() {
    let mut server = RedisServer::start();
    // Slots are refreshed every third of it.
    let times = [("PENSTOCK_QUOTA__LEASE_TTL", "6s"), ("PENSTOCK_QUOTA__HEARTBEAT", "1s")];
    let setup = times.iter().fold(on_redis(&server), |setup, (name, value)| setup.env(name, *value));
    let mut node = setup.start().await;
    node.tier("some", json!({ "bytesPerHour": 1_u64 << 50, "maxConcurrentStreams": 10 })).await;
    let bytes = sample(80, 50_000);
    let paid = node.paid(&bytes, "some").await;
    // One that runs through all of it.
    let long = sample(81, 32 << 20);
    let long_paid = node.paid(&long, "some").await;
    let mut running = Wire::streaming(&node, &long_paid).await;
    says(&node, "ok").await;
    assert_eq!(slot_keys(&server), 1);

    let (served, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let more = async |what: &str| {
        let until = served.load(Relaxed) + 50;
        eventually(what, async || served.load(Relaxed) >= until).await;
    };
    let clients = join_all((0..8).map(|_| stream_on(&node, &paid, &bytes, &served, &stop)));
    let faults = async {
        more("streams before the faults").await;
        server.kill();
        more("streams without Redis").await;
        says(&node, "down").await;
        server.restart();
        says(&node, "ok").await;
        more("streams after the restart").await;
        server.pause();
        says(&node, "down").await;
        more("streams while Redis hangs").await;
        server.resume();
        says(&node, "ok").await;
        more("streams after the pause").await;
        server.flush();
        more("streams after the flush").await;
        stop.store(true, Relaxed);
    };
    tokio::join!(clients, faults);

    // Its slot is there again although Redis had lost it twice.
    eventually("the slot of the running stream is back", async || {
        node.quota(&long_paid.receipt).await["concurrent"]["activeStreams"] == 1
    })
    .await;
    assert_eq!(running.read_on(long.len()).await, long);
    drop(running);
    at_rest(&node).await;
    eventually("no slot is left", async || slot_keys(&server) == 0).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    assert_eq!(rows.len() as u64, served.load(Relaxed));
    assert_eq!(bytes_of(&rows), served.load(Relaxed) * bytes.len() as u64);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_redis_and_finds_it_when_it_comes() {
    let mut server = RedisServer::start();
    server.kill();
    let mut node = on_redis(&server).start().await;
    says(&node, "down").await;
    node.tier("single", json!({ "maxConcurrentStreams": 1 })).await;
    let bytes = sample(82, 32 << 20);
    let paid = node.paid(&bytes, "single").await;
    let mut running = Wire::streaming(&node, &paid).await;
    expect_problem(node.stream_apart(&paid).send().await.unwrap(), 429, "too-many-streams").await;
    server.restart();
    says(&node, "ok").await;
    eventually("the slot of the running stream is in Redis", async || slot_keys(&server) == 1).await;
    expect_problem(node.stream_apart(&paid).send().await.unwrap(), 429, "too-many-streams").await;
    assert_eq!(running.read_on(bytes.len()).await, bytes);
    drop(running);
    at_rest(&node).await;
    eventually("no slot is left", async || slot_keys(&server) == 0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_clients_abort_leave_no_slot_in_redis() {
    const CLIENTS: u64 = 10_000;
    let server = RedisServer::start();
    let mut node = on_redis(&server).start().await;
    node.tier("many", json!({ "bytesPerHour": 1_u64 << 50, "maxConcurrentStreams": 1000 })).await;
    let paid = node.paid(&sample(83, 2 << 20), "many").await;
    stream::iter(0..CLIENTS)
        .for_each_concurrent(64, async |client| {
            if client % 2 == 0 {
                drop(Wire::asking(&node, &paid).await);
            } else {
                drop(Wire::streaming(&node, &paid).await);
            }
        })
        .await;
    at_rest(&node).await;
    eventually("no slot is left", async || slot_keys(&server) == 0).await;
    assert_eq!(node.quota(&paid.receipt).await["concurrent"]["activeStreams"], 0);
    let trips = node.metric("penstock_redis_round_trips_total", "").await;
    assert!(trips < CLIENTS as f64, "{trips} round trips for {CLIENTS} streams");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_costs_one_round_trip_at_most_and_none_without_a_limit() {
    const STREAMS: u64 = 200;
    // What goes on whether anybody streams or not: a cache tells now and then what it is asked for most.
    const TIMERS: f64 = 20.0;
    let server = RedisServer::start();
    // What nobody waits for waits for somebody, so that the machine's speed does not matter. Rate limits fetch their allowance by
    // the minute, which says nothing about a stream.
    let node = on_redis(&server).env("PENSTOCK_REDIS__GATHER", "1h").env("RATE_LIMITS_JSON", r#"{"default":0}"#);
    let mut node = node.start().await;
    node.tier("single", json!({ "bytesPerHour": 1_u64 << 50, "maxConcurrentStreams": 1 })).await;
    let bytes = sample(84, 10_000);
    let (limited, unlimited) = (node.paid(&bytes, "single").await, node.paid(&bytes, "unlimited").await);
    let session = node.client.post(node.url("/v1/streaming/sessions"));
    let session = session.json(&json!({ "receiptId": limited.receipt })).send().await.unwrap();
    let session = expect(session, &[201]).await["sessionId"].as_str().unwrap().to_owned();

    let trips = async || node.metric("penstock_redis_round_trips_total", "").await;
    // The first one brings the scripts along.
    assert_eq!(node.stream(&limited).send().await.unwrap().bytes().await.unwrap(), bytes);
    let before = trips().await;
    for _ in 0..STREAMS {
        let answer = node.stream(&limited).header("x-session-id", &session).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
    let taken = trips().await - before;
    assert!((STREAMS as f64..=STREAMS as f64 + TIMERS).contains(&taken), "{taken}");
    eventually("the session has all of it", async || {
        let found = node.get(&format!("/v1/streaming/sessions/{session}")).send().await.unwrap();
        expect(found, &[200]).await["streams"] == STREAMS
    })
    .await;

    let before = trips().await;
    for _ in 0..STREAMS {
        assert_eq!(node.stream(&unlimited).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
    let taken = trips().await - before;
    assert!(taken <= TIMERS, "{taken}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_gives_its_slots_back() {
    let server = RedisServer::start();
    let mut node =
        on_redis(&server).env("PENSTOCK_REDIS__GATHER", "1h").env("PENSTOCK_SERVER__DRAIN_GRACE", "1s").start().await;
    node.tier("some", json!({ "maxConcurrentStreams": 10 })).await;
    let paid = node.paid(&sample(85, 32 << 20), "some").await;
    let running = [Wire::streaming(&node, &paid).await, Wire::streaming(&node, &paid).await];
    assert_eq!(slot_keys(&server), 1);
    assert!(node.terminate().await.success());
    assert_eq!(slot_keys(&server), 0, "a client may go on at once at another node");
    drop(running);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_slots_and_sessions_which_outlive_a_killed_node() {
    let (server, database) = (RedisServer::start(), TestDatabase::empty().await);
    let blobs = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::on_database_of(&database.url())
            .env("DATA_ROOT", blobs.path().to_str().unwrap())
            .env("REDIS_URL", server.url())
            .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "2s")
            .env("PENSTOCK_QUOTA__LEASE_TTL", "4s")
            .env("PENSTOCK_QUOTA__HEARTBEAT", "1s")
            .start()
    };
    let (mut one, mut other) = tokio::join!(setup(), setup());
    one.tier("single", json!({ "maxConcurrentStreams": 1 })).await;
    let bytes = sample(86, 32 << 20);
    let paid = one.paid(&bytes, "single").await;
    let session = one.client.post(one.url("/v1/streaming/sessions")).json(&json!({ "receiptId": paid.receipt }));
    let session = expect(session.send().await.unwrap(), &[201]).await["sessionId"].as_str().unwrap().to_owned();
    let shown = async |node: &TestNode| {
        expect(node.get(&format!("/v1/streaming/sessions/{session}")).send().await.unwrap(), &[200]).await
    };

    // In turns, each at once after the other: what one gives back the other has.
    for turn in 0..20 {
        let node = if turn % 2 == 0 { &one } else { &other };
        let part = node.stream(&paid).header("x-session-id", &session).header("range", "bytes=0-9999");
        let answer = part.send().await.unwrap();
        assert_eq!(answer.status(), 206, "turn {turn}");
        assert_eq!(answer.bytes().await.unwrap(), bytes[..10_000]);
    }
    eventually("the session has all of it", async || shown(&other).await["streams"] == 20).await;
    assert_eq!(shown(&one).await["bytesDelivered"], 200_000);

    let running = Wire::streaming(&one, &paid).await;
    expect_problem(other.stream_apart(&paid).send().await.unwrap(), 429, "too-many-streams").await;
    one.kill().await;
    drop(running);
    eventually("the slot of the dead node frees itself", async || {
        let answer = other.stream_apart(&paid).header("range", "bytes=0-0").send().await.unwrap();
        answer.status() == 206
    })
    .await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_that_seeks_at_another_node_ends_its_older_stream_wherever_that_runs() {
    let (server, database) = (RedisServer::start(), TestDatabase::empty().await);
    let blobs = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::on_database_of(&database.url())
            .env("DATA_ROOT", blobs.path().to_str().unwrap())
            .env("REDIS_URL", server.url())
            .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "2s")
            .start()
    };
    let (mut one, mut other) = tokio::join!(setup(), setup());
    let bytes = sample(87, 32 << 20);
    one.tier("single", json!({ "bytesPerHour": 1_u64 << 50, "maxConcurrentStreams": 1 })).await;
    let paid = one.paid(&bytes, "single").await;
    let mut older = Wire::streaming(&one, &paid).await;
    let mut got = vec![older.read_on(100_000).await];
    assert_eq!(got[0], bytes[..100_000]);
    // To and fro, each time before the older stream is closed.
    for turn in 1..=6 {
        let node = if turn % 2 == 0 { &one } else { &other };
        let offset = turn * 1_000_000;
        let mut newer = Wire::streaming_from(node, &paid, offset).await;
        assert_eq!(one.quota(&paid.receipt).await["concurrent"]["activeStreams"], 1, "turn {turn}");
        got.last_mut().unwrap().extend(older.read_on(bytes.len()).await);
        got.push(newer.read_on(100_000).await);
        assert_eq!(got[turn], bytes[offset..offset + 100_000], "turn {turn}");
        older = newer;
    }
    // Of another session, neither here nor there.
    for node in [&one, &other] {
        expect_problem(node.stream_apart(&paid).send().await.unwrap(), 429, "too-many-streams").await;
    }
    got.last_mut().unwrap().extend(older.read_on(bytes.len() - 6_100_000).await);
    drop(older);
    assert!(got[6] == bytes[6_000_000..], "the last one is not cut");
    for node in [&one, &other] {
        at_rest(node).await;
    }
    let rows = usage_rows(&one, &paid.receipt).await;
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["aborted", "aborted", "aborted", "aborted", "aborted", "aborted", "completed"]);
    let received: Vec<_> = got.iter().map(|part| part.len() as u64).collect();
    let charged: Vec<_> = rows.iter().map(|row| row["bytesSent"].as_u64().unwrap()).collect();
    assert_eq!(charged, received, "each stream is charged for what its client received");
    one.finish().await;
    other.finish().await;
}
