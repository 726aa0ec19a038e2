//! Uploads that meet each other, break off, or are cut off.

use futures::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::{
    node::{On, Setup, TestNode, expect, expect_problem, hex_sha256, sample},
    patience::eventually,
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
