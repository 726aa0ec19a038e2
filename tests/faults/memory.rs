//! Memory: content may be larger than all of it.

use bytes::Bytes;
use futures::{future::join_all, stream};
use penstock::config::S3Client;
use reqwest::{Body, Method};
use serde_json::json;

use crate::{
    kernel::at_a_standstill,
    node::{On, Paid, Setup, TestNode, expect, sample, text},
    patience::eventually,
    s3::TestBuckets,
    still::nothing_held,
    wire::Wire,
};

const PART: u64 = 1 << 20;

/// How much more memory a stream of any size may take.
const ROOM: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gibibytes_in_and_out_take_little_memory() {
    let node = TestNode::start(On::Sqlite).await;
    takes_little_memory(node, 2 << 30).await;
}

/// A hundred at once, each larger than what the node holds of it, of one producer and without a single setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_uploads_at_a_time_take_less_than_200_mib() {
    const SIZE: u64 = 4 << 20;
    let mut node = TestNode::start(On::Sqlite).await;
    node.forget_peak_memory();
    let uploads = (0..100_u8).map(|number| {
        let part = Bytes::from(vec![number; PART as usize]);
        let parts = stream::iter((0..SIZE / PART).map(move |_| Ok::<_, std::io::Error>(part.clone())));
        node.admin(Method::POST, "/v1/content").body(Body::wrap_stream(parts)).send()
    });
    for answer in join_all(uploads).await {
        assert_eq!(expect(answer.unwrap(), &[201]).await["sizeBytes"], SIZE);
    }
    let most = node.peak_memory();
    assert!(most < 200 << 20, "{} MiB", most >> 20);
    node.finish().await;
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

/// A crowd of players that are paused. The limit is less than two thirds of what one piece of content for each would take with what the
/// streams hold besides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_whose_clients_read_nothing_take_little_memory_and_give_it_back() {
    const STREAMS: usize = 1000;
    rlimit::increase_nofile_limit(8192).expect("the system allows more open files");
    let mut node = TestNode::start(On::Sqlite).await;
    let bytes = sample(31, 8 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    nothing_held(&node).await;

    let before = node.forget_peak_memory();
    let crowd = join_all((0..STREAMS).map(|_| Wire::streaming(&node, &paid))).await;
    node.metric_becomes("penstock_streams_active", "", STREAMS as f64).await;
    at_a_standstill(crowd[STREAMS - 1].address()).await;
    let grown = node.peak_memory().saturating_sub(before);
    assert!(grown < ROOM, "{STREAMS} streams took {} MiB", grown >> 20);

    drop(crowd);
    nothing_held(&node).await;
    // Without a further request to the node: the allocator does it by itself.
    eventually("the memory goes back to the system", async || node.resident_bytes() < before + (ROOM >> 2)).await;
    node.finish().await;
}
