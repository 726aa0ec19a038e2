//! Uploads that meet each other, break off, or are cut off.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures::future::join_all;
use penstock::config::S3Client;
use reqwest::Method;
use serde_json::Value;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, hex_sha256, sample},
    patience::eventually,
    proxy::{Fault, Proxy},
    s3::TestBuckets,
    still::{at_rest, blob, temporary_files, visible_blobs},
    wire::Wire,
};

async fn upload(node: &TestNode, bytes: &[u8]) -> Value {
    let upload = node.admin(Method::POST, "/v1/content").body(bytes.to_vec());
    expect(upload.send().await.unwrap(), &[200, 201]).await
}

on_both!(uploads_of_the_same_content_at_once_are_one_blob_and_one_creation, async |node: &mut TestNode| {
    for (seed, at_once) in [(10, 2), (11, 16)] {
        let bytes = sample(seed, 2_500_000);
        let before = visible_blobs(node);
        let answers = join_all((0..at_once).map(|_| upload(node, &bytes))).await;
        assert!(answers.iter().all(|answer| answer["contentHash"] == hex_sha256(&bytes)));
        assert_eq!(answers.iter().filter(|answer| answer["created"] == true).count(), 1, "{answers:?}");
        at_rest(node).await;
        assert_eq!(visible_blobs(node), before + 1);
        let paid = node.paid(&bytes, "unlimited").await;
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_or_lies_leaves_nothing() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_UPLOADS__IDLE_TIMEOUT", "1s").start().await;
    let bytes = sample(12, 3_000_000);

    // The client leaves.
    let mut wire = Wire::uploading(&node, bytes.len() as u64).await;
    wire.send(&bytes[..2_000_000]).await;
    eventually("the upload is under way", async || !temporary_files(&node).is_empty()).await;
    drop(wire);
    at_rest(&node).await;

    // The client stays, and sends nothing more.
    let mut wire = Wire::uploading(&node, bytes.len() as u64).await;
    wire.send(&bytes[..2_000_000]).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 408"));
    at_rest(&node).await;

    // The bytes are not what was announced.
    let wrong = format!("/v1/content?contentHash={}", hex_sha256(b"something else"));
    let answer = node.admin(Method::POST, &wrong).body(bytes.clone()).send().await.unwrap();
    expect_problem(answer, 422, "digest-mismatch").await;
    at_rest(&node).await;

    assert_eq!(visible_blobs(&node), 0);
    assert_eq!(upload(&node, &bytes).await["created"], true);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_a_kill_cuts_off_is_never_visible_and_is_cleaned_up() {
    let mut node = TestNode::start(On::Sqlite).await;
    let bytes = sample(13, 3_000_000);
    let mut wire = Wire::uploading(&node, bytes.len() as u64).await;
    wire.send(&bytes[..2_000_000]).await;
    eventually("bytes are on the disk", async || {
        temporary_files(&node).iter().any(|file| file.metadata().is_ok_and(|data| data.len() > 1_000_000))
    })
    .await;
    node.kill().await;
    assert_eq!(temporary_files(&node).len(), 1, "the kill left the file behind");

    node.set_env("PENSTOCK_JANITOR__INTERVAL", "200ms");
    node.set_env("PENSTOCK_JANITOR__TEMPORARY_AGE", "1s");
    node.set_env("PENSTOCK_UPLOADS__IDLE_TIMEOUT", "500ms");
    node.boot().await;
    assert_eq!(visible_blobs(&node), 0);
    let asset = serde_json::json!({ "contentHash": hex_sha256(&bytes), "name": "lost" });
    assert_eq!(node.admin(Method::POST, "/v1/assets").json(&asset).send().await.unwrap().status(), 422);
    node.metric_becomes("penstock_janitor_items_total", "temporary_file", 1.0).await;
    at_rest(&node).await;

    assert_eq!(upload(&node, &bytes).await["created"], true);
    assert!(blob(&node, &hex_sha256(&bytes)).exists());
    node.finish().await;
}

/// The client writes as fast as it may, and the store takes nothing for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumable_upload_waits_for_its_store_with_two_parts_in_memory() {
    const PART: usize = 8 << 20;
    const SIZE: usize = 64 << 20;
    /// What the kernel holds of a connection's direction, at both ends, by its own limits.
    const KERNEL: usize = 16 << 20;
    let mut buckets = TestBuckets::new(S3Client::ObjectStore);
    let line = Proxy::started(buckets.endpoint.strip_prefix("http://").unwrap().parse().unwrap()).await;
    buckets.endpoint = line.url();
    let mut node = Setup::new(On::Sqlite).envs(buckets.env()).start().await;
    let resumable = |method: Method, place: &str| node.admin(method, place).header("tus-resumable", "1.0.0");
    let begun = resumable(Method::POST, "/v1/uploads").header("upload-length", SIZE).send().await.unwrap();
    assert_eq!(begun.status(), 201);
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    let bytes = sample(14, SIZE);

    line.set(Fault::Hole);
    let mut wire = Wire::to(&node).await;
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ntus-resumable: 1.0.0\r\n\
         upload-offset: 0\r\ncontent-type: application/offset+octet-stream\r\ncontent-length: {SIZE}\r\n\r\n"
    );
    wire.send(head.as_bytes()).await;
    let sent = AtomicUsize::new(0);
    let sending = async {
        for piece in bytes.chunks(64 << 10) {
            wire.send(piece).await;
            sent.fetch_add(piece.len(), Relaxed);
        }
        wire.head().await
    };
    let stood_still = async {
        let (mut before, mut still) = (0, 0);
        while still < 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = sent.load(Relaxed);
            still = if now > 0 && now == before { still + 1 } else { 0 };
            before = now;
        }
        assert!(before <= 2 * PART + KERNEL, "the node took {before} bytes and stored none");
        line.heal();
    };
    let (answer, ()) = tokio::join!(sending, stood_still);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let done = expect(resumable(Method::GET, &place).send().await.unwrap(), &[200]).await;
    assert_eq!(done["contentHash"], hex_sha256(&bytes), "{done}");
    drop(wire);
    node.finish().await;
}
