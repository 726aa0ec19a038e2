//! Stored bytes that are no longer what they were.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use serde_json::json;

use crate::{
    node::{On, Paid, Setup, TestNode, expect_problem, hex_sha256, sample},
    still::{at_rest, blob, leaf_list, usage_rows},
    wire::Wire,
};

/// Three leaves of 1 MiB, the last one short.
const SIZE: usize = (2 << 20) + 4321;

async fn limited(node: &TestNode, seed: u64) -> (Paid, Vec<u8>) {
    node.tier("limited", json!({ "bytesPerHour": 1_u64 << 40, "maxConcurrentStreams": 1 })).await;
    let bytes = sample(seed, SIZE);
    (node.paid(&bytes, "limited").await, bytes)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn cut(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

async fn corrupt_reads(node: &TestNode) -> f64 {
    node.metric("penstock_content_corrupt_total", "").await
}

/// Damage that is known before the first byte: a problem document, no charge, no slot kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_damaged_from_the_start_is_refused_before_the_headers() {
    // Some of it would be mended, which is not what this is about.
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_VERIFICATION__RATE", "0B").start().await;
    type Damage = fn(&TestNode, &str);
    let cases: [(&str, Damage); 7] = [
        ("no blob", |node, hash| fs::remove_file(blob(node, hash)).unwrap()),
        ("a blob cut in the middle", |node, hash| cut(&blob(node, hash), SIZE as u64 / 2)),
        ("an empty blob", |node, hash| cut(&blob(node, hash), 0)),
        ("a flipped bit in the first leaf", |node, hash| flip(&blob(node, hash), 777)),
        ("a flipped bit in the leaf list", |node, hash| flip(&leaf_list(node, hash), 20)),
        ("half a leaf list", |node, hash| cut(&leaf_list(node, hash), 30)),
        ("no leaf list", |node, hash| fs::remove_file(leaf_list(node, hash)).unwrap()),
    ];
    for (seed, (case, damage)) in (100..).zip(cases) {
        let (paid, _) = limited(&node, seed).await;
        let before = corrupt_reads(&node).await;
        damage(&node, &paid.hash);
        // Twice: the first refusal keeps nothing that would refuse the second in another way.
        for _ in 0..2 {
            let answer = node.stream(&paid).send().await.unwrap();
            assert_eq!(answer.status(), 503, "{case}");
            expect_problem(answer, 503, "content-unavailable").await;
        }
        let counted = corrupt_reads(&node).await - before;
        assert_eq!(counted > 0.0, case != "no blob", "{case}: {counted} corrupt reads counted");
        at_rest(&node).await;
        assert_eq!(node.charged(&paid.receipt).await, (0, 0), "{case}");
    }
    node.finish().await;
}

/// Damage that is found on the way: the connection breaks after what was whole, and only that is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_damaged_in_the_middle_resets_the_connection() {
    // A content that is known to be damaged is not served at all; here it is about what comes before that is known.
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_VERIFICATION__RATE", "0B").start().await;
    for (seed, offset) in [(200, (1_u64 << 20) + 5), (201, SIZE as u64 - 1)] {
        let (paid, bytes) = limited(&node, seed).await;
        let before = corrupt_reads(&node).await;
        flip(&blob(&node, &paid.hash), offset);
        let got = Wire::streaming(&node, &paid).await.read_on(SIZE).await;
        assert!(got.len() as u64 <= offset, "nothing of the damaged leaf is sent");
        assert_eq!(got, bytes[..got.len()], "what is sent is what was stored");
        let answer = node.stream(&paid).send().await.unwrap();
        assert!(answer.bytes().await.is_err(), "it does not look like a whole answer");
        // What comes before the damage is served.
        let whole = node.stream(&paid).header("range", "bytes=0-1048575").send().await.unwrap();
        assert_eq!(whole.bytes().await.unwrap(), bytes[..1 << 20]);
        assert!(corrupt_reads(&node).await > before);
        at_rest(&node).await;
        let rows = usage_rows(&node, &paid.receipt).await;
        assert!(rows.iter().all(|row| row["bytesSent"].as_u64().unwrap() <= offset), "{rows:?}");
        assert_eq!(rows.iter().filter(|row| row["outcome"] == "failed").count(), 2, "{rows:?}");
    }
    node.finish().await;
}

/// A blob that is cut while it is open: what a lying disk or a meddler does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_cut_while_it_streams_resets_the_connection() {
    let mut node = TestNode::start(On::Sqlite).await;
    let bytes = sample(300, 24 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut wire = Wire::streaming(&node, &paid).await;
    let mut got = wire.read_on(100_000).await;
    cut(&blob(&node, &paid.hash), 21 << 20);
    got.extend(wire.read_on(bytes.len()).await);
    assert!(got.len() <= 21 << 20, "the leaf that is not whole is not sent");
    assert!(got == bytes[..got.len()], "what is sent is what was stored");
    at_rest(&node).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    assert_eq!((rows.len(), rows[0]["outcome"].as_str()), (1, Some("failed")));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_was_lost_comes_back_with_its_next_upload() {
    let mut node = TestNode::start(On::Sqlite).await;
    let (paid, bytes) = limited(&node, 400).await;
    fs::remove_file(blob(&node, &paid.hash)).unwrap();
    expect_problem(node.stream(&paid).send().await.unwrap(), 503, "content-unavailable").await;
    node.put(&bytes, "application/octet-stream").await;
    let answer = node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(hex_sha256(&answer), paid.hash);
    at_rest(&node).await;
    node.finish().await;
}
