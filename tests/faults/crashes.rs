//! Nodes that are killed with usage in memory: what the usage spool has is settled by the next start. Without the spool, the lease is charged
//! or released.

use std::fs;

use serde_json::{Value, json};

use crate::{
    node::{On, Paid, Setup, TestNode, sample},
    patience::eventually,
    still::{at_rest, bytes_of, usage_rows},
};

const SIZE: u64 = 1_000_000;
const LIMIT: u64 = 20 * SIZE;
const STREAMED: u64 = 3;

/// What became of the data folder after the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spool {
    Kept,
    Lost,
    /// It is there, but the record of the process is that of an earlier moment, as in a copy of the folder that was put back.
    Older,
}

/// A node that was killed with usage in memory, and is up again with nothing reserved.
async fn crashed(on: On, lost_lease: &str, spool: Spool) -> (TestNode, Paid) {
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
    let record = node.data_dir().join("life.json");
    let earlier = fs::read(&record).unwrap();
    for _ in 0..STREAMED {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
    node.metric_becomes("penstock_usage_recorded_total", "", STREAMED as f64).await;
    assert_eq!(node.metric("penstock_usage_settled_total", "").await, 0.0);
    eventually("three more heartbeats are recorded", async || {
        heartbeats_in(&fs::read(&record).unwrap()) >= heartbeats_in(&earlier) + 3
    })
    .await;
    node.kill().await;

    node.set_env("PENSTOCK_USAGE__BATCH_AGE", "20ms");
    match spool {
        Spool::Kept => {}
        Spool::Lost => fs::remove_dir_all(node.data_dir().join("usage-spool")).unwrap(),
        Spool::Older => fs::write(record, earlier).unwrap(),
    }
    // The Janitor reads the time of the file system from a temporary file, which the kill may leave.
    node.set_env("PENSTOCK_JANITOR__TEMPORARY_AGE", "1s");
    node.set_env("PENSTOCK_UPLOADS__IDLE_TIMEOUT", "500ms");
    node.boot().await;
    let reclaimed = if spool == Spool::Kept { 0.0 } else { 1.0 };
    node.metric_becomes("penstock_janitor_items_total", "lease_reclaimed", reclaimed).await;
    eventually("nothing is reserved", async || month(&node, &paid).await["bytesReserved"] == 0).await;
    (node, paid)
}

/// The heartbeats of a record.
fn heartbeats_in(record: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(record).unwrap()["beats"].as_u64().unwrap()
}

async fn month(node: &TestNode, paid: &Paid) -> Value {
    node.quota(&paid.receipt).await["windows"]["month"].clone()
}

/// The next start charges what was sent, whatever becomes of lost leases.
async fn settles_what_was_sent(on: On, lost_lease: &str) {
    let (mut node, paid) = crashed(on, lost_lease, Spool::Kept).await;
    assert_eq!(node.charged(&paid.receipt).await, (STREAMED * SIZE, STREAMED));
    let rows = usage_rows(&node, &paid.receipt).await;
    assert!(rows.iter().all(|row| row["outcome"] == "completed"), "{rows:?}");
    assert_eq!(node.metric("penstock_usage_spool_recovered", "").await, STREAMED as f64);
    node.metric_becomes("penstock_usage_spool_entries", "", 0.0).await;
    streams_to_the_limit(&node, &paid, STREAMED * SIZE).await;
    // A clean stop leaves nothing to settle.
    assert!(node.terminate().await.success());
    node.boot().await;
    assert_eq!(node.metric("penstock_usage_spool_recovered", "").await, 0.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_nodes_next_start_charges_what_it_had_sent_on_sqlite() {
    settles_what_was_sent(On::Sqlite, "charge").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_nodes_next_start_charges_what_it_had_sent_on_postgres() {
    settles_what_was_sent(On::Postgres, "release").await;
}

async fn charges_what_was_lost(on: On) {
    let (mut node, paid) = crashed(on, "charge", Spool::Lost).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_may_be_an_older_copy_settles_its_notes_and_proves_nothing() {
    let (mut node, paid) = crashed(On::Sqlite, "charge", Spool::Older).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    let (lost, streams): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["outcome"] == "lost_lease");
    assert_eq!((streams.len() as u64, lost.len()), (STREAMED, 1), "{rows:?}");
    assert_eq!(month(&node, &paid).await["bytesUsed"], bytes_of(&rows));
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
async fn a_killed_node_whose_spool_is_lost_is_charged_for_its_lease_on_sqlite() {
    charges_what_was_lost(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_whose_spool_is_lost_is_charged_for_its_lease_on_postgres() {
    charges_what_was_lost(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_whose_spool_is_lost_gives_its_lease_back_where_the_operator_wants_it() {
    let (mut node, paid) = crashed(On::Sqlite, "release", Spool::Lost).await;
    let window = month(&node, &paid).await;
    assert_eq!((&window["bytesUsed"], &window["bytesReserved"]), (&json!(0), &json!(0)), "{window}");
    assert!(usage_rows(&node, &paid.receipt).await.is_empty());
    streams_to_the_limit(&node, &paid, 0).await;
    node.finish().await;
}
