//! Databases that are restored: from a dump, in place under a running node, by a file that takes the place of another.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cluster::program,
    node::{On, Paid, Setup, TestNode, expect, sample},
    patience::eventually,
    postgres::TestDatabase,
    still::{bytes_of, nothing_held, usage_rows},
};

const SIZE: u64 = 100_000;

fn quick(setup: Setup) -> Setup {
    setup
        .env("PENSTOCK_QUOTA__HEARTBEAT", "300ms")
        .env("PENSTOCK_QUOTA__LEASE_TTL", "1s")
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
}

async fn paid(node: &TestNode, seed: u64, len: u64, tier: &str) -> Paid {
    node.paid(&sample(seed, len as usize), tier).await
}

async fn tiers(node: &TestNode) {
    node.tier("small", json!({ "bytesPerMonth": 100 * SIZE, "requestsPerMonth": 100 })).await;
    node.tier("slow", json!({ "bytesPerMonth": 1_u64 << 30, "maxBandwidthMbps": 4.0 })).await;
}

async fn stream(node: &TestNode, paid: &Paid) {
    let answer = node.stream(paid).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap().len() as u64, SIZE);
}

async fn no_lease_was_charged(node: &TestNode, paid: &Paid) {
    let rows = usage_rows(node, &paid.receipt).await;
    assert!(rows.iter().all(|row| row["outcome"] != "lost_lease"), "{rows:?}");
    let charged = node.charged(&paid.receipt).await;
    assert_eq!(charged, (bytes_of(&rows), rows.len() as u64));
}

async fn rejected(node: &TestNode) -> Vec<Value> {
    let output = node.run(&["usage", "rejected"]).await;
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_in_place_is_noticed_and_streams_without_a_receipt_end() {
    let (database, folder) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    let mut node = quick(Setup::on_database_of(&database.url()))
        // A table that the node makes ahead must not come before the one of the dump.
        .env("PENSTOCK_JANITOR__INTERVAL", "1h")
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .start()
        .await;
    tiers(&node).await;
    let before = paid(&node, 1, SIZE, "small").await;
    stream(&node, &before).await;
    nothing_held(&node).await;
    let dump = folder.path().join("dump");
    database.dump(&program("pg_dump"), &dump);

    stream(&node, &before).await;
    // A sale that the dump does not know, and half a minute of its content.
    let after = paid(&node, 2, 16 << 20, "slow").await;
    let mut running = node.stream(&after).send().await.unwrap();
    running.chunk().await.unwrap().expect("the stream runs");

    database.restore(&program("pg_restore"), &dump).await;
    let cut = loop {
        match running.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut, "no receipt covers it any more");
    node.metric_becomes("penstock_database_restores_total", "", 1.0).await;
    eventually("a receipt that the dump knows streams again", async || {
        let answer = node.stream(&before).send().await.unwrap();
        answer.status() == 200 && answer.bytes().await.unwrap().len() as u64 == SIZE
    })
    .await;
    assert_eq!(node.stream(&after).send().await.unwrap().status(), 404, "the receipt is gone");
    nothing_held(&node).await;
    no_lease_was_charged(&node, &before).await;

    // What was sent for the receipt that is gone is kept for a person.
    let kept = rejected(&node).await;
    let kept = kept.iter().find(|row| row["receiptId"] == after.receipt.as_str()).expect("the row is kept");
    assert!(kept["bytesSent"].as_u64().unwrap() > 0 && kept["reason"].is_string(), "{kept}");
    assert!(node.metric("penstock_usage_set_aside_total", "").await >= 1.0);
    assert_eq!(node.metric("penstock_usage_dropped_total", "").await, 0.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_in_a_restored_dump_are_released_without_a_charge() {
    let (database, other) = (TestDatabase::empty().await, TestDatabase::empty().await);
    let (folder, blobs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = blobs.path().to_str().unwrap();
    let mut node = quick(Setup::on_database_of(&database.url()).env("DATA_ROOT", root)).start().await;
    tiers(&node).await;
    let held = paid(&node, 3, SIZE, "small").await;
    stream(&node, &held).await;
    nothing_held(&node).await;
    let dump = folder.path().join("dump");
    database.dump(&program("pg_dump"), &dump);
    node.finish().await;

    // In another database, with a new node: the dump's own node is gone, and looks as if it had crashed.
    other.restore(&program("pg_restore"), &dump).await;
    let mut node = quick(Setup::on_database_of(&other.url()).env("DATA_ROOT", root)).start().await;
    node.metric_becomes("penstock_janitor_items_total", "kind=\"lease_spared\"", 1.0).await;
    assert_eq!(node.charged(&held.receipt).await, (SIZE, 1), "what was delivered when the dump was made");
    no_lease_was_charged(&node, &held).await;
    stream(&node, &held).await;
    nothing_held(&node).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_say_that_the_database_was_restored_while_a_node_runs() {
    for on in [On::Sqlite, On::Postgres] {
        let mut node = quick(Setup::new(on)).start().await;
        tiers(&node).await;
        let held = paid(&node, 4, SIZE, "small").await;
        stream(&node, &held).await;
        nothing_held(&node).await;
        let said = node.run(&["restore-done"]).await;
        assert!(said.status.success(), "{said:?}");
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains("a new timeline begins") && said.contains("1 leases of"), "{said}");
        node.metric_becomes("penstock_database_restores_total", "", 1.0).await;
        node.metric_becomes("penstock_janitor_items_total", "kind=\"lease_spared\"", 1.0).await;
        eventually("streams go on", async || {
            let answer = node.stream(&held).send().await.unwrap();
            answer.status() == 200 && answer.bytes().await.unwrap().len() as u64 == SIZE
        })
        .await;
        nothing_held(&node).await;
        no_lease_was_charged(&node, &held).await;
        node.finish().await;
    }
}

async fn sells(node: &TestNode, version: &str) -> Option<String> {
    let sale = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": version, "quotaTier": "small" }));
    let answer = sale.send().await.ok()?;
    if answer.status() != 201 {
        return None;
    }
    Some(expect(answer, &[201]).await["receiptId"].as_str().unwrap().to_owned())
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_node_has_every_sale_and_is_restored_without_a_charge() {
    let mut node = quick(Setup::new(On::Sqlite)).start().await;
    tiers(&node).await;
    let held = paid(&node, 5, SIZE, "small").await;
    let mut sold = Vec::new();
    for _ in 0..40 {
        sold.push(sells(&node, &held.version).await.expect("sold"));
    }
    stream(&node, &held).await;
    nothing_held(&node).await;
    let copy = node.folder.path().join("copy");
    let copied = node.run(&["backup", copy.to_str().unwrap()]).await;
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(lines(&copy.with_extension("blobs")), [format!("{} {SIZE}", held.hash)]);
    let again = node.run(&["backup", copy.to_str().unwrap()]).await;
    assert!(!again.status.success(), "a copy is never written over");

    let later = sells(&node, &held.version).await.expect("sold");
    let running = node.run(&["restore", copy.to_str().unwrap()]).await;
    assert!(!running.status.success(), "not under a running node");
    assert!(String::from_utf8_lossy(&running.stderr).contains("stop the node"), "{running:?}");
    assert!(node.terminate().await.success());
    let restored = node.run(&["restore", copy.to_str().unwrap()]).await;
    assert!(restored.status.success(), "{restored:?}");

    node.boot().await;
    for receipt in &sold {
        assert_eq!(node.get(&format!("/v1/receipts/{receipt}")).send().await.unwrap().status(), 200);
    }
    assert_eq!(node.get(&format!("/v1/receipts/{later}")).send().await.unwrap().status(), 404);
    node.metric_becomes("penstock_janitor_items_total", "kind=\"lease_spared\"", 1.0).await;
    assert_eq!(node.charged(&held.receipt).await, (SIZE, 1));
    no_lease_was_charged(&node, &held).await;
    stream(&node, &held).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_database_file_is_replaced_sells_nothing_more_and_stops() {
    let mut node = Setup::new(On::Sqlite).start().await;
    tiers(&node).await;
    let held = paid(&node, 6, SIZE, "small").await;
    let (file, copy) = (node.data_dir().join("penstock.sqlite3"), node.folder.path().join("copy"));
    assert!(node.run(&["backup", copy.to_str().unwrap()]).await.status.success());
    fs::rename(&copy, &file).unwrap();
    assert_eq!(sells(&node, &held.version).await, None, "nothing is answered for that would be lost");
    assert!(!node.ended().await.success());
    // The log of the file that was there belongs to no file now.
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(node.data_dir().join(format!("penstock.sqlite3{suffix}")));
    }
    node.boot().await;
    assert!(sells(&node, &held.version).await.is_some());
    node.finish().await;
}
