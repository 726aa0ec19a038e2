//! Nodes that are killed.

use serde_json::{Value, json};

use crate::{
    node::{On, Paid, Setup, TestNode, sample},
    still::{at_rest, bytes_of, usage_rows},
};

const SIZE: u64 = 1_000_000;
const LIMIT: u64 = 20 * SIZE;
const STREAMED: u64 = 3;

/// A node that was killed with usage in memory, is up again, and whose lost lease has been taken back.
async fn crashed(on: On, lost_lease: &str) -> (TestNode, Paid) {
    let mut node = Setup::new(on)
        .env("PENSTOCK_QUOTA__LOST_LEASE", lost_lease)
        .env("PENSTOCK_QUOTA__HEARTBEAT", "300ms")
        .env("PENSTOCK_QUOTA__LEASE_TTL", "1s")
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        // Nothing is settled before the kill.
        .env("PENSTOCK_USAGE__BATCH_AGE", "1h")
        .start()
        .await;
    node.tier("small", json!({ "bytesPerMonth": LIMIT, "requestsPerMonth": 100 })).await;
    let bytes = sample(50, SIZE as usize);
    let paid = node.paid(&bytes, "small").await;
    for _ in 0..STREAMED {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
    node.metric_becomes("penstock_usage_recorded_total", "", STREAMED as f64).await;
    assert_eq!(node.metric("penstock_usage_settled_total", "").await, 0.0);
    node.kill().await;

    node.set_env("PENSTOCK_USAGE__BATCH_AGE", "20ms");
    // The Janitor reads the time of the file system from a temporary file, which the kill may leave.
    node.set_env("PENSTOCK_JANITOR__TEMPORARY_AGE", "1s");
    node.set_env("PENSTOCK_UPLOADS__IDLE_TIMEOUT", "500ms");
    node.boot().await;
    node.metric_becomes("penstock_janitor_items_total", "lease_reclaimed", 1.0).await;
    (node, paid)
}

async fn month(node: &TestNode, paid: &Paid) -> Value {
    node.quota(&paid.receipt).await["windows"]["month"].clone()
}

async fn charges_what_was_lost(on: On) {
    let (mut node, paid) = crashed(on, "charge").await;
    let window = month(&node, &paid).await;
    let used = window["bytesUsed"].as_u64().unwrap();
    assert!((STREAMED * SIZE..=LIMIT).contains(&used), "never less than was sent, never more than the limit: {window}");
    assert!(window["requestsUsed"].as_u64().unwrap() >= STREAMED, "{window}");
    assert_eq!(window["bytesReserved"], 0, "{window}");
    let rows = usage_rows(&node, &paid.receipt).await;
    assert!(rows.iter().all(|row| row["outcome"] == "lost_lease"), "{rows:?}");
    assert_eq!(bytes_of(&rows), used);
    streams_to_the_limit(&node, &paid, used).await;
    node.finish().await;
}

/// What is left can be streamed, and not a byte more.
async fn streams_to_the_limit(node: &TestNode, paid: &Paid, used: u64) {
    let mut delivered = 0;
    loop {
        let answer = node.stream(paid).send().await.unwrap();
        if answer.status() == 429 {
            break;
        }
        delivered += answer.bytes().await.unwrap().len() as u64;
        assert!(used + delivered <= LIMIT, "{used} and {delivered}");
    }
    at_rest(node).await;
    let window = month(node, paid).await;
    assert_eq!(window["bytesUsed"], used + delivered);
    assert_eq!(delivered, (LIMIT - used) / SIZE * SIZE, "all that was left could be had");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_charged_for_its_lease_on_sqlite() {
    charges_what_was_lost(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_charged_for_its_lease_on_postgres() {
    charges_what_was_lost(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_gives_its_lease_back_where_the_operator_wants_it() {
    let (mut node, paid) = crashed(On::Sqlite, "release").await;
    let window = month(&node, &paid).await;
    assert_eq!((&window["bytesUsed"], &window["bytesReserved"]), (&json!(0), &json!(0)), "{window}");
    assert!(usage_rows(&node, &paid.receipt).await.is_empty());
    streams_to_the_limit(&node, &paid, 0).await;
    node.finish().await;
}
