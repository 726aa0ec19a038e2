//! Two processes with one identity, and a machine that slept: neither looks like the crash of a node.

use std::{collections::HashSet, fs};

use reqwest::Method;
use serde_json::json;

use crate::{
    faketime::by_file,
    node::{On, Paid, Setup, TestNode, sample},
    patience::eventually,
    postgres::TestDatabase,
    still::{bytes_of, nothing_held, usage_rows},
};

const SIZE: u64 = 100_000;

fn name(node: &TestNode) -> String {
    fs::read_to_string(node.data_dir().join("node-id")).unwrap()
}

fn quick(setup: Setup) -> Setup {
    setup
        .env("PENSTOCK_QUOTA__HEARTBEAT", "300ms")
        .env("PENSTOCK_QUOTA__LEASE_TTL", "3s")
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
}

async fn stream(node: &TestNode, paid: &Paid) {
    let answer = node.stream(paid).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap().len() as u64, SIZE);
}

/// What clients got is what is charged, and no row tells of a lost lease.
async fn charged_as_delivered(node: &TestNode, paid: &Paid, streams: u64) {
    assert_eq!(node.charged(&paid.receipt).await, (streams * SIZE, streams));
    let rows = usage_rows(node, &paid.receipt).await;
    assert!(rows.iter().all(|row| row["outcome"] == "completed"), "{rows:?}");
    assert_eq!(bytes_of(&rows), streams * SIZE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_a_copy_of_another_ones_data_folder_takes_an_identity_of_its_own() {
    let (database, blobs) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    let setup = || quick(Setup::on_database_of(&database.url()).env("DATA_ROOT", blobs.path().to_str().unwrap()));
    let mut first = setup().start().await;
    first.tier("small", json!({ "bytesPerMonth": 100 * SIZE })).await;
    let paid = first.paid(&sample(90, SIZE as usize), "small").await;
    stream(&first, &paid).await;

    // The machine is cloned while the node runs: the copy has the record of a life that goes on elsewhere.
    let mut second = setup().with_copy_of(first.data_dir()).start().await;
    assert_ne!(name(&first), name(&second));
    for _ in 0..10 {
        stream(&first, &paid).await;
        stream(&second, &paid).await;
    }
    // Both live on, over several lives of a lease.
    second.metric_becomes("penstock_instances", "", 2.0).await;
    let heartbeats = async |node: &TestNode| node.metric("penstock_db_queries_total", "statement=\"heartbeat\"").await;
    let before = heartbeats(&first).await;
    eventually("twenty heartbeats pass", async || heartbeats(&first).await >= before + 20.0).await;
    for node in [&first, &second] {
        stream(node, &paid).await;
        nothing_held(node).await;
    }
    charged_as_delivered(&first, &paid, 23).await;
    second.finish().await;
    first.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_keeps_its_identity_and_its_leases_are_taken_back_at_once() {
    let mut node = Setup::new(On::Postgres)
        // Nothing runs out while the test runs.
        .env("PENSTOCK_QUOTA__LEASE_TTL", "10min")
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        .start()
        .await;
    let before = name(&node);
    node.tier("small", json!({ "bytesPerMonth": 100 * SIZE })).await;
    let paid = node.paid(&sample(91, SIZE as usize), "small").await;
    stream(&node, &paid).await;
    node.kill().await;
    node.boot().await;
    assert_eq!(name(&node), before);
    eventually("its lease is given back", async || {
        node.quota(&paid.receipt).await["windows"]["month"]["bytesReserved"] == 0
    })
    .await;
    charged_as_delivered(&node, &paid, 1).await;
    assert_eq!(
        node.metric("penstock_janitor_items_total", "kind=\"lease_spared\"").await,
        0.0,
        "it was no second process"
    );
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_identity_is_alive_elsewhere_stops_and_its_leases_are_not_charged() {
    let (database, blobs) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    let setup = Setup::on_database_of(&database.url()).env("DATA_ROOT", blobs.path().to_str().unwrap());
    let mut node = quick(setup).start().await;
    let before = name(&node);
    node.tier("small", json!({ "bytesPerMonth": 100 * SIZE })).await;
    let paid = node.paid(&sample(92, SIZE as usize), "small").await;
    stream(&node, &paid).await;
    nothing_held(&node).await;
    let client = database.client().await;
    let namesake = "INSERT INTO ledger_nodes (node_id, epoch, alive_until)
        SELECT node_id, epoch + 1000000, now() + interval '1 hour' FROM ledger_nodes ORDER BY epoch DESC LIMIT 1";
    client.execute(namesake, &[]).await.unwrap();
    assert!(!node.ended().await.success(), "a supervisor starts it again");
    node.boot().await;
    assert_ne!(name(&node), before);
    let leased = "SELECT count(*) FROM quota_leases";
    eventually("what it held is given back", async || {
        client.query_one(leased, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    charged_as_delivered(&node, &paid, 1).await;
    stream(&node, &paid).await;
    node.finish().await;
    assert_eq!(usage_set_aside(&node).await, 0);
}

async fn usage_set_aside(node: &TestNode) -> usize {
    let output = node.run(&["usage", "rejected"]).await;
    assert!(output.status.success(), "{output:?}");
    output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count()
}

/// The wall clock of a laptop that slept jumps ahead, and the time that passes for a process stands still. Nobody else could have taken
/// what the node holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_slept_charges_no_receipt_for_its_own_leases() {
    let clock = tempfile::NamedTempFile::new().unwrap();
    fs::write(clock.path(), "+0").unwrap();
    let mut node = Setup::new(On::Sqlite)
        // The Janitor wakes long before the next heartbeat.
        .env("PENSTOCK_JANITOR__INTERVAL", "50ms")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
        .envs(by_file(clock.path()))
        .start()
        .await;
    node.tier("small", json!({ "bytesPerMonth": 100 * SIZE, "requestsPerMonth": 100 })).await;
    let paid = node.paid(&sample(93, SIZE as usize), "small").await;
    stream(&node, &paid).await;
    nothing_held(&node).await;
    fs::write(clock.path(), "+300").unwrap();
    let passes = async || node.metric("penstock_db_queries_total", "statement=\"reclaim\"").await;
    let before = passes().await;
    eventually("the Janitor passes by", async || passes().await >= before + 5.0).await;
    charged_as_delivered(&node, &paid, 1).await;
    eventually("streams go on", async || {
        let answer = node.stream(&paid).send().await.unwrap();
        answer.status() == 200 && answer.bytes().await.unwrap().len() as u64 == SIZE
    })
    .await;
    nothing_held(&node).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    let outcomes: HashSet<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, HashSet::from(["completed"]), "{rows:?}");
    assert_eq!(node.charged(&paid.receipt).await.0, bytes_of(&rows));
    assert_eq!(node.admin(Method::GET, "/health/ready").send().await.unwrap().status(), 200);
    node.finish().await;
}
