//! S3 that is down, hangs, fails and damages what passes, under a whole node.

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{
    failing_s3::node_behind_a_proxy,
    node::{Paid, TestNode, expect, expect_problem, hex_sha256, sample, text},
    patience::eventually,
    s3::TestBuckets,
    s3_proxy::{Fault, S3Proxy},
    still::{nothing_held, usage_rows},
};

/// Three leaves of 1 MiB, the last one short.
const SIZE: usize = (2 << 20) + 4321;

/// A node whose S3 fails as the test says.
struct World {
    buckets: TestBuckets,
    proxy: S3Proxy,
    node: TestNode,
}

impl World {
    async fn new(more: &[(&'static str, &'static str)]) -> Self {
        let (buckets, proxy, node) = node_behind_a_proxy(more.iter().copied()).await;
        Self { buckets, proxy, node }
    }

    async fn ready(&self) -> (u16, String) {
        let answer = self.node.get("/health/ready").send().await.unwrap();
        let status = answer.status().as_u16();
        (status, expect(answer, &[200, 503]).await["dependencies"]["storage"].to_string())
    }

    /// The last look: nothing held by the node, nothing left in the buckets that is not content.
    async fn finish(mut self, contents: usize) {
        self.proxy.heal();
        nothing_held(&self.node).await;
        eventually("nothing is left of what failed", async || self.buckets.unfinished().await.is_empty()).await;
        assert_eq!(self.buckets.all_keys("blobs").await.len(), contents);
        self.node.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_goes_away_takes_only_what_is_not_in_memory() {
    let mut world = World::new(&[]).await;
    let (known, unknown) = (sample(1, SIZE), sample(2, SIZE));
    let (hot, cold) = (world.node.paid(&known, "unlimited").await, world.node.paid(&unknown, "unlimited").await);
    assert_eq!(world.node.stream(&hot).send().await.unwrap().bytes().await.unwrap(), known);
    assert_eq!(world.ready().await, (200, "\"ok\"".to_owned()));

    for fault in [Fault::Reset, Fault::Answer(503, "SlowDown"), Fault::Hang] {
        world.proxy.break_all(fault);
        for _ in 0..3 {
            let answer = world.node.stream(&hot).send().await.unwrap();
            assert_eq!(answer.bytes().await.unwrap(), known, "{fault:?}");
        }
        expect_problem(world.node.stream(&cold).send().await.unwrap(), 503, "dependency-unavailable").await;
        for size in [1000, 6_000_000] {
            let upload = world.node.admin(Method::POST, "/v1/content").body(sample(3, size)).send().await.unwrap();
            expect_problem(upload, 503, "dependency-unavailable").await;
        }
        let says = async |state: &str| world.ready().await == (200, format!("\"{state}\""));
        eventually("readiness says that it is down", async || says("down").await).await;
        world.proxy.heal();
        eventually("and that it is well again", async || says("ok").await).await;
    }
    assert_eq!(world.node.stream(&cold).send().await.unwrap().bytes().await.unwrap(), unknown);
    let whole = world.node.charged(&cold.receipt).await;
    assert_eq!(whole, (SIZE as u64, 1), "what was refused is not charged");

    // A node that starts while S3 is away, and is whole once it is back.
    world.proxy.break_all(Fault::Reset);
    assert!(world.node.terminate().await.success());
    world.node.boot().await;
    eventually("readiness says that it is down", async || world.ready().await == (200, "\"down\"".to_owned())).await;
    world.proxy.heal();
    assert_eq!(world.node.stream(&cold).send().await.unwrap().bytes().await.unwrap(), unknown);
    world.finish(2).await;
}

/// The same faults for the same seed.
fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }
}

/// One fault for a read.
fn any_read_fault(dice: &mut impl FnMut() -> u64) -> Fault {
    let at = dice() as usize % (1 << 20);
    match dice() % 8 {
        0 => Fault::Answer(500, "InternalError"),
        1 => Fault::Answer(503, "SlowDown"),
        2 => Fault::Reset,
        3 => Fault::Lose,
        4 => Fault::StallBody(at),
        5 => Fault::FlipBit(at),
        _ => Fault::CutBody(at),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_right_to_the_byte_or_visibly_broken_whatever_s3_does() {
    let world = World::new(&[("PENSTOCK_STREAMS__MEMORY_CACHE", "0")]).await;
    let bytes = sample(10, SIZE);
    let paid = world.node.paid(&bytes, "unlimited").await;
    let mut next = dice(42);
    world
        .proxy
        .rule(move |seen| (seen.operation() == "get" && next().is_multiple_of(2)).then(|| any_read_fault(&mut next)));
    let (mut whole, mut broken) = (0_u64, 0_u64);
    for _ in 0..6 {
        let streams = join_all((0..4).map(|_| stream_all(&world.node, &paid, &bytes))).await;
        whole += streams.iter().filter(|whole| **whole).count() as u64;
        broken += streams.iter().filter(|whole| !**whole).count() as u64;
    }
    assert_eq!(whole + broken, 24);
    assert!(whole > 0, "most faults are gone at the next attempt");
    assert!(world.node.metric("penstock_s3_retries_total", "").await > 0.0);
    world.proxy.heal();
    nothing_held(&world.node).await;
    // Bytes that were sent are charged, and no others.
    let rows = usage_rows(&world.node, &paid.receipt).await;
    let sent: u64 = rows.iter().map(|row| row["bytesSent"].as_u64().unwrap()).sum();
    assert!(sent >= whole * SIZE as u64 && sent <= 24 * SIZE as u64);
    assert_eq!(world.node.charged(&paid.receipt).await.0, sent);
    assert!(stream_all(&world.node, &paid, &bytes).await, "it is over");
    world.finish(1).await;
}

/// Whether a stream came to its end. Whatever came must be right, and an end that looks whole must be.
async fn stream_all(node: &TestNode, paid: &Paid, bytes: &[u8]) -> bool {
    let mut answer = node.stream(paid).send().await.unwrap();
    if answer.status() == 503 {
        let problem = expect(answer, &[503]).await["type"].to_string();
        assert!(problem.contains("dependency-unavailable") || problem.contains("content-unavailable"), "{problem}");
        return false;
    }
    assert_eq!(answer.status(), 200);
    let mut got = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(part)) => got.extend(part),
            Ok(None) => {
                assert!(got == bytes, "an end that looks whole is whole");
                return true;
            }
            Err(_) => {
                assert!(got.len() < bytes.len() && got == bytes[..got.len()], "what came is right");
                return false;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_s3_damages_never_reach_a_client() {
    let world = World::new(&[("PENSTOCK_STREAMS__MEMORY_CACHE", "0")]).await;
    let bytes = sample(20, SIZE);
    let paid = world.node.paid(&bytes, "unlimited").await;
    let stream = async || world.node.stream(&paid).send().await.unwrap();
    // That it was right the first time says nothing of the second.
    assert_eq!(stream().await.bytes().await.unwrap(), bytes);
    for (count, at) in [(1.0, 777), (2.0, 0)] {
        world.proxy.break_next(1, "get", "data", Fault::FlipBit(at));
        expect_problem(stream().await, 503, "content-unavailable").await;
        assert_eq!(world.node.metric("penstock_content_corrupt_total", "").await, count);
        world.proxy.heal();
        assert_eq!(stream().await.bytes().await.unwrap(), bytes);
    }
    nothing_held(&world.node).await;
    assert_eq!(world.node.charged(&paid.receipt).await, (3 * SIZE as u64, 3));
    world.finish(1).await;
}

/// One fault for a write.
fn any_write_fault(dice: &mut impl FnMut() -> u64) -> Fault {
    match dice() % 7 {
        0 => Fault::Answer(500, "InternalError"),
        1 => Fault::Answer(503, "SlowDown"),
        2 => Fault::Reset,
        3 => Fault::Lose,
        4 => Fault::Hang,
        _ => Fault::CutRequest(dice() as usize % 6_000_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_succeeds_or_fails_and_leaves_no_part_whatever_s3_does() {
    let world = World::new(&[("PENSTOCK_STREAMS__MEMORY_CACHE", "0")]).await;
    let mut next = dice(77);
    // An upload that was begun, while its id was lost, has no parts; what removes it is the bucket's lifecycle.
    let breakable = |operation: &str| !["begin", "list", "get"].contains(&operation);
    world.proxy.rule(move |seen| {
        (breakable(seen.operation()) && next().is_multiple_of(3)).then(|| any_write_fault(&mut next))
    });
    let contents: Vec<_> =
        (0..12).map(|seed| sample(30 + seed, if seed % 2 == 0 { 6_000_000 } else { 50_000 })).collect();
    let mut stored = Vec::new();
    for batch in contents.chunks(3) {
        let uploads = batch.iter().map(async |bytes| {
            let answer = world.node.admin(Method::POST, "/v1/content").body(bytes.clone()).send().await.unwrap();
            let created = answer.status() == 201;
            if !created {
                expect_problem(answer, 503, "dependency-unavailable").await;
            }
            created
        });
        for (bytes, created) in batch.iter().zip(join_all(uploads).await) {
            if created {
                stored.push(bytes);
            }
        }
    }
    world.proxy.heal();
    assert!(!stored.is_empty(), "most faults are gone at the next attempt");
    for bytes in &stored {
        let version = world.node.publish(&hex_sha256(bytes), "content.bin").await;
        let receipt = world.node.receipt(&version, serde_json::json!({ "quotaTier": "unlimited" })).await;
        let paid = Paid { hash: hex_sha256(bytes), version, receipt };
        assert!(stream_all(&world.node, &paid, bytes).await, "what was answered with 201 is there");
    }
    // A sweep decides about those whose manifest may have been written.
    let sweeper = world.buckets.store().await;
    eventually("data is named by a manifest or gone", async || {
        let swept =
            penstock_actors::ports::BlobTrash::sweep(&sweeper, std::time::Duration::ZERO, usize::MAX, false).await;
        swept.unwrap();
        let (data, blobs) = (world.buckets.all_keys("data").await.len(), world.buckets.all_keys("blobs").await.len());
        data == blobs && world.buckets.all_keys("uploads").await.is_empty()
    })
    .await;
    let visible = world.buckets.all_keys("blobs").await.len();
    assert!(visible >= stored.len());
    world.finish(visible).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_is_told_the_trace_of_the_request_that_it_works_for() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (_buckets, proxy, mut node) = node_behind_a_proxy([("PENSTOCK_LOG__LEVEL", "error")]).await;
    // Several parts in, and several leaves out.
    let bytes = sample(90, 17_000_000);
    let traced = |request: RequestBuilder| request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    proxy.seen();
    let upload = node.admin(Method::POST, "/v1/content").header("content-type", "video/mp4").body(bytes.clone());
    let hash = text(&expect(traced(upload).send().await.unwrap(), &[201]).await, "contentHash");
    let sent = proxy.seen();
    let version = node.publish(&hash, "film.mp4").await;
    let paid = Paid { receipt: node.receipt(&version, json!({ "quotaTier": "unlimited" })).await, hash, version };
    proxy.seen();
    let answer = traced(node.stream(&paid)).send().await.unwrap();
    let passed_on = answer.headers()["traceresponse"].to_str().unwrap().to_owned();
    assert!(answer.bytes().await.unwrap() == bytes);
    let read = proxy.seen();
    assert!(sent.iter().filter(|seen| seen.operation() == "part").count() >= 3, "{sent:?}");
    assert!(read.iter().filter(|seen| seen.is("get", "data")).count() >= 2, "{read:?}");
    for seen in sent.iter().filter(|seen| seen.operation() == "part") {
        assert!(seen.traceparent.as_ref().is_some_and(|trace| trace.contains(TRACE)), "{seen:?}");
    }
    for seen in read.iter().filter(|seen| seen.is("get", "data")) {
        assert_eq!(seen.traceparent.as_ref(), Some(&passed_on), "{seen:?}");
    }
    node.finish().await;
}
