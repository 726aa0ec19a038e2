//! Memory: content may be larger than all of it.

use bytes::Bytes;
use futures::stream;
use penstock::config::S3Client;
use reqwest::{Body, Method};
use serde_json::json;

use crate::{
    node::{On, Paid, Setup, TestNode, expect, text},
    s3::TestBuckets,
    still::nothing_held,
};

const PART: u64 = 1 << 20;

/// How much more memory a stream of any size may take.
const ROOM: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gibibytes_in_and_out_take_little_memory() {
    let node = TestNode::start(On::Sqlite).await;
    takes_little_memory(node, 2 << 30).await;
}

/// Of an upload to S3, three parts of 8 MiB are in memory at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_in_s3_takes_little_memory_in_and_out() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let node = Setup::new(On::Sqlite).envs(buckets.env()).env("PENSTOCK_S3__PART_SIZE", "8MiB").start().await;
    takes_little_memory(node, 384 << 20).await;
}

async fn takes_little_memory(mut node: TestNode, size: u64) {
    // The first small exchange pays for what every node allocates once.
    let small = node.paid(&vec![1; 3 << 20], "unlimited").await;
    assert_eq!(node.stream(&small).send().await.unwrap().bytes().await.unwrap().len(), 3 << 20);

    let before = node.forget_peak_memory();
    let part = Bytes::from(vec![7; PART as usize]);
    let parts = stream::iter((0..size / PART).map(move |_| Ok::<_, std::io::Error>(part.clone())));
    let upload = node.admin(Method::POST, "/v1/content").body(Body::wrap_stream(parts));
    let answer = expect(upload.send().await.unwrap(), &[201]).await;
    assert_eq!(answer["sizeBytes"], size);
    let grown = node.peak_memory().saturating_sub(before);
    assert!(grown < ROOM, "the upload took {} MiB", grown >> 20);

    let hash = text(&answer, "contentHash");
    let version = node.publish(&hash, "large.bin").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
    let paid = Paid { hash, version, receipt };
    let before = node.forget_peak_memory();
    let mut answer = node.stream(&paid).send().await.unwrap();
    let mut got = 0;
    while let Some(part) = answer.chunk().await.unwrap() {
        got += part.len() as u64;
    }
    assert_eq!(got, size);
    let grown = node.peak_memory().saturating_sub(before);
    assert!(grown < ROOM, "the download took {} MiB", grown >> 20);

    nothing_held(&node).await;
    assert_eq!(node.charged(&paid.receipt).await, (size, 1));
    node.finish().await;
}
