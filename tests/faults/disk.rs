//! A disk that has no room left.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{On, Setup, TestNode, expect_problem, sample},
    patience::eventually,
    small_disk::{SmallDisk, fill},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_the_upload_and_the_node_goes_on() {
    let disk = SmallDisk::mounted("8m");
    let root = disk.path().to_str().expect("a path");
    let mut node = Setup::new(On::Sqlite).env("DATA_ROOT", root).start().await;
    let small = sample(20, 2_000_000);
    let paid = node.paid(&small, "unlimited").await;
    let blobs = files_below(disk.path());

    for seed in 21..24 {
        let upload = node.admin(Method::POST, "/v1/content").body(sample(seed, 12_000_000));
        expect_problem(upload.send().await.unwrap(), 507, "storage-full").await;
        node.metric_becomes("penstock_uploads_active", "", 0.0).await;
        assert_eq!(files_below(disk.path()), blobs, "nothing of it is left");
    }

    // What is there is served, and what fits is taken.
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), small);
    let other = sample(25, 2_000_000);
    let paid = node.paid(&other, "unlimited").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), other);
    node.metric_becomes("penstock_admission_in_use", "", 0.0).await;
    node.finish().await;
}

/// All that an instance keeps is on the disk: its database too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_disk_is_full_is_down_until_there_is_room_and_no_usage_is_lost() {
    let disk = SmallDisk::mounted("24m");
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_DATA_DIR", disk.path().to_str().expect("a path"));
    let mut node = setup.env("PENSTOCK_USAGE__BATCH_AGE", "20ms").env("PENSTOCK_LINEAGE__EMIT", "false").start().await;
    let bytes = sample(26, 500_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let stream = async || {
        let answer = node.stream(&paid).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap() == bytes)
    };
    assert_eq!(stream().await, (200, true));

    let filler = disk.path().join("filler");
    fill(&filler);
    let mut streamed = 1;
    eventually("readiness says that the database cannot write", async || {
        let sale = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": paid.version }));
        assert_ne!(sale.send().await.unwrap().status(), 201, "nothing is answered for that is not kept");
        streamed += u64::from(stream().await == (200, true));
        fill(&filler);
        let (code, ready) = ready(&node).await;
        code == 503 && ready["dependencies"]["database"] == "down"
    })
    .await;
    let upload = node.admin(Method::POST, "/v1/content").body(sample(27, 100_000));
    expect_problem(upload.send().await.unwrap(), 507, "storage-full").await;

    std::fs::remove_file(&filler).unwrap();
    eventually("all is well", async || ready(&node).await.1["status"] == "ok").await;
    eventually("it streams", async || {
        let is_served = stream().await == (200, true);
        streamed += u64::from(is_served);
        is_served
    })
    .await;
    eventually("all that was sent is in the ledger", async || {
        node.charged(&paid.receipt).await == (streamed * bytes.len() as u64, streamed)
    })
    .await;
    node.finish().await;
}

async fn ready(node: &TestNode) -> (u16, Value) {
    let ready = node.get("/health/ready").send().await.unwrap();
    (ready.status().as_u16(), ready.json().await.unwrap())
}

/// Files that hold something: locks are empty and stay.
fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let counts = entries.map(|path| {
        let holds = path.metadata().is_ok_and(|data| data.len() > 0);
        if path.is_dir() { files_below(&path) } else { usize::from(holds) }
    });
    counts.sum()
}
