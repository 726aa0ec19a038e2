//! Who gets no URL: for the reasons and in the order of a stream, and charged nothing; and who gets the last one.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};

use crate::{
    direct::direct,
    given::{path, rows},
    nginx::Nginx,
    node::{On, Paid, Setup, TestNode, expect, expect_problem, hex_sha256, sample},
    postgres::TestDatabase,
};

const NOBODY: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
const SIZE: u64 = 100_000;

/// A node in the mode that needs nothing more: nobody fetches anything here.
async fn node() -> TestNode {
    node_with(&[]).await
}

async fn node_with(settings: &[(&str, &str)]) -> TestNode {
    let setup = Setup::new(On::Sqlite)
        .env("DATA_DELIVERY_MODE", "direct")
        .env("PENSTOCK_DELIVERY__BASE_URL", "https://cdn.example.com")
        .env("PENSTOCK_DELIVERY__SIGNING_KEY", "0123456789abcdef0123456789abcdef");
    settings.iter().fold(setup, |setup, &(name, value)| setup.env(name, value)).start().await
}

async fn refused(node: &TestNode, paid: &Paid, status: u16, name: &str) -> Value {
    let problem = expect_problem(node.get(&path(paid)).send().await.unwrap(), status, name).await;
    if paid.receipt != NOBODY {
        assert_eq!(node.charged(&paid.receipt).await, (0, 0));
    }
    problem
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reason_to_refuse_comes_before_the_next() {
    let mut node = node().await;
    let hash = node.put(&sample(10, 1000), "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    let other = hex_sha256(b"not stored");
    let tier = json!({ "bytesPerMonth": 10, "maxFileSizeBytes": 100, "allowedContentTypes": ["text/plain"] });
    node.tier("tight", tier.clone()).await;
    let make = async |members: Value| {
        let mut members = members;
        members["quotaTier"] = "tight".into();
        Paid { hash: hash.clone(), version: version.clone(), receipt: node.receipt(&version, members).await }
    };
    for bad in [
        format!("/v1/data?receiptId={NOBODY}"),
        format!("/v1/data?contentHash={hash}"),
        format!("/v1/data?contentHash={hash}0&receiptId={NOBODY}"),
        format!("/v1/data?contentHash={hash}&receiptId=x"),
    ] {
        expect_problem(node.get(&bad).send().await.unwrap(), 400, "malformed-request").await;
    }
    let unknown = Paid { hash: other.clone(), version: version.clone(), receipt: NOBODY.to_owned() };
    refused(&node, &unknown, 404, "unknown-receipt").await;
    for (members, name) in [
        (json!({ "status": "pending" }), "receipt-not-confirmed"),
        (json!({ "expiresAt": "2020-01-01T00:00:00Z" }), "receipt-expired"),
        (json!({ "status": "refunded" }), "receipt-refunded"),
    ] {
        refused(&node, &Paid { hash: other.clone(), ..make(members).await }, 403, name).await;
    }
    let consumed = make(json!({ "status": "consumed" })).await;
    refused(&node, &Paid { hash: other, ..consumed.clone() }, 409, "receipt-for-other-content").await;
    refused(&node, &consumed, 409, "receipt-consumed").await;
    let confirmed = make(json!({ "status": "confirmed" })).await;
    refused(&node, &confirmed, 403, "media-type-not-allowed").await;
    node.tier("tight", json!({ "bytesPerMonth": 10, "maxFileSizeBytes": 100 })).await;
    refused(&node, &confirmed, 413, "content-too-large").await;
    node.tier("tight", json!({ "bytesPerMonth": 10 })).await;
    assert_eq!(refused(&node, &confirmed, 429, "quota-exceeded").await["window"], "month");
    node.tier("tight", json!({ "requestsPerMonth": 0 })).await;
    assert_eq!(refused(&node, &confirmed, 429, "quota-exceeded").await["unit"], "requests");
    node.tier("tight", json!({})).await;
    expect(node.get(&path(&confirmed)).send().await.unwrap(), &[200]).await;
    assert_eq!(rows(&node, &confirmed.receipt).await, [("delegated".to_owned(), 1000)]);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_holds_no_stream_slot() {
    let mut node = node().await;
    let paid = node.paid(&sample(11, 1000), "standard").await;
    for given in 1..=5 {
        let answer = node.get(&path(&paid)).send().await.unwrap();
        expect(answer, &[200]).await;
        assert_eq!(node.charged(&paid.receipt).await, (1000 * given, given));
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_for_the_last_bytes_get_exactly_those() {
    let mut node = node().await;
    // Seven URLs, and not quite an eighth.
    node.tier("tight", json!({ "bytesPerMonth": 8 * SIZE - 1 })).await;
    let paid = node.paid(&sample(12, SIZE as usize), "tight").await;
    let asking = (0..60).map(|_| async {
        let answer = node.get(&path(&paid)).send().await.unwrap();
        match answer.status().as_u16() {
            200 => 1,
            _ => {
                expect_problem(answer, 429, "quota-exceeded").await;
                0
            }
        }
    });
    let given: u64 = join_all(asking).await.into_iter().sum();
    assert_eq!(given, 7);
    assert_eq!(node.charged(&paid.receipt).await, (7 * SIZE, 7));
    assert_eq!(rows(&node, &paid.receipt).await, vec![("delegated".to_owned(), SIZE); 7]);
    node.finish().await;
}

/// One request, as a URL or as a stream of the node's own; how many were given.
async fn ask(node: &TestNode, paid: &Paid, turn: usize) -> u64 {
    let answer = if turn.is_multiple_of(3) { node.stream(paid) } else { node.get(&path(paid)) }.send().await.unwrap();
    if answer.status() != 200 {
        expect_problem(answer, 429, "quota-exceeded").await;
        return 0;
    }
    answer.bytes().await.unwrap();
    1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_never_give_a_url_or_a_stream_too_many() {
    let database = TestDatabase::empty().await;
    let blobs = tempfile::tempdir().unwrap();
    let edge = Nginx::start(&[], "server { listen LISTEN; }").await;
    let setup = || {
        direct(Setup::on_database_of(&database.url()), &edge, blobs.path())
            .env("PENSTOCK_QUOTA__ENTRY_TTL", "300ms")
            .env("PENSTOCK_QUOTA__REFUSAL_TTL", "50ms")
            .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
            .start()
    };
    let (mut one, mut other) = tokio::join!(setup(), setup());
    // Forty, and not quite another one.
    one.tier("tight", json!({ "bytesPerMonth": 40 * SIZE + SIZE / 2 })).await;
    let paid = one.paid(&sample(13, SIZE as usize), "tight").await;
    let nodes = [&one, &other];
    let asking = stream::iter(0..120_usize).map(|turn| ask(nodes[turn % 2], &paid, turn)).buffer_unordered(32);
    let mut given: u64 = asking.fold(0, async |all, one| all + one).await;
    assert!(given <= 40, "{given} of 40");
    // What one of them holds unused comes back, and then all can be had.
    let deadline = Instant::now() + Duration::from_secs(60);
    for turn in 0.. {
        if given == 40 {
            break;
        }
        given += ask(nodes[turn % 2], &paid, turn).await;
        assert!(given <= 40 && Instant::now() < deadline, "{given} of 40");
    }
    for node in nodes {
        node.metric_becomes("penstock_admission_in_use", "", 0.0).await;
    }
    for (turn, node) in nodes.into_iter().enumerate() {
        assert_eq!(ask(node, &paid, turn).await, 0, "not one more");
        assert_eq!(node.charged(&paid.receipt).await, (40 * SIZE, 40));
    }
    let rows = rows(&one, &paid.receipt).await;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|(outcome, bytes)| *bytes == SIZE && (outcome == "delegated" || outcome == "completed")));
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_makes_no_url_free_that_was_given_before() {
    let mut node = node_with(&[
        ("PENSTOCK_QUOTA__HEARTBEAT", "300ms"),
        ("PENSTOCK_QUOTA__LEASE_TTL", "1s"),
        ("PENSTOCK_JANITOR__INTERVAL", "100ms"),
        // Nothing is settled before the kill.
        ("PENSTOCK_USAGE__BATCH_AGE", "1h"),
    ])
    .await;
    node.tier("tight", json!({ "bytesPerMonth": 20 * SIZE })).await;
    let paid = node.paid(&sample(14, SIZE as usize), "tight").await;
    for _ in 0..3 {
        expect(node.get(&path(&paid)).send().await.unwrap(), &[200]).await;
    }
    node.metric_becomes("penstock_usage_recorded_total", "", 3.0).await;
    node.kill().await;
    node.set_env("PENSTOCK_USAGE__BATCH_AGE", "20ms");
    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (3 * SIZE, 3), "each URL is charged, and no lease");
    let mut given = 0;
    while ask(&node, &paid, 1).await == 1 {
        given += 1;
    }
    assert_eq!(given, 17, "all that was left, and no more");
    assert_eq!(node.charged(&paid.receipt).await.0, 20 * SIZE);
    node.finish().await;
}
