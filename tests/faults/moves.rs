//! Work on stored content while S3 fails under it, and when it takes longer than anybody waits.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    failing_s3::node_behind_a_proxy,
    node::{Paid, TestNode, expect, hex_sha256, sample},
    patience::within,
    s3::TestBuckets,
    s3_proxy::{Fault, S3Proxy},
};

const SIZE: usize = 24 << 20;

/// Longer than it takes to notice that a node is gone, and that nobody is at its work.
const PATIENCE: Duration = Duration::from_secs(150);

/// A node on S3 behind a proxy, with little patience unless the test has more.
async fn scene(more: &[(&'static str, &'static str)]) -> (TestBuckets, S3Proxy, TestNode) {
    let own = [
        ("PENSTOCK_LIFECYCLE__GRACE", "1s"),
        ("PENSTOCK_STREAMS__MEMORY_CACHE", "0"),
        ("PENSTOCK_VERIFICATION__INTERVAL", "200ms"),
    ];
    node_behind_a_proxy(own.into_iter().chain(more.iter().copied())).await
}

async fn is_whole(node: &TestNode, paid: &Paid) -> bool {
    let answer = node.stream(paid).send().await.unwrap();
    answer.status() == 200 && hex_sha256(&answer.bytes().await.unwrap()) == paid.hash
}

fn moving(node: &TestNode, paid: &Paid, tier: &str) -> reqwest::RequestBuilder {
    node.admin(Method::POST, &format!("/v1/storage/move/{}", paid.hash)).json(&json!({ "tier": tier }))
}

/// A move whose node dies while S3 takes a part, or whose S3 fails at a write, is ended by whoever finds it. The content is
/// whole all the while, and in one place afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_broken_off_anywhere_is_ended_and_its_readers_never_notice() {
    let (buckets, proxy, mut node) = scene(&[]).await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;

    // What the upload asked for is of no interest.
    proxy.seen();
    proxy.break_next(1, "part", "data", Fault::Hang);
    let call = tokio::spawn(moving(&node, &paid, "cold").send());
    within(PATIENCE, "a part hangs", async || proxy.seen().iter().any(|seen| seen.is("part", "data"))).await;
    node.kill().await;
    assert!(call.await.unwrap().is_err(), "it was killed before it answered");
    proxy.heal();
    node.boot().await;
    assert!(is_whole(&node, &paid).await);
    within(PATIENCE, "somebody ended it", async || buckets.tiers_with(&paid.hash).await == ["cold"]).await;
    assert!(is_whole(&node, &paid).await);

    for (tier, operation, folder, fault) in [
        ("warm", "part", "data", Fault::CutRequest(1 << 20)),
        ("hot", "put", "blobs", Fault::Lose),
        ("warm", "complete", "data", Fault::Lose),
    ] {
        proxy.break_next(1, operation, folder, fault);
        let answer = moving(&node, &paid, tier).send().await.unwrap();
        assert!([200, 202, 503].contains(&answer.status().as_u16()), "{}", answer.status());
        assert!(is_whole(&node, &paid).await, "{operation} {fault:?}");
        proxy.heal();
        within(PATIENCE, &format!("it is in the {tier} tier alone"), async || {
            buckets.tiers_with(&paid.hash).await == [tier]
        })
        .await;
        assert!(is_whole(&node, &paid).await, "{operation} {fault:?}");
    }
    node.finish().await;
}

/// Nobody waits for longer than balancers do: the work goes on, and what it found is told afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_takes_long_is_accepted_and_goes_on_without_its_client() {
    let patient = [("PENSTOCK_S3__IDLE_TIMEOUT", "20s"), ("PENSTOCK_S3__RETRY_TIME", "25s")];
    let (_buckets, proxy, mut node) = scene(&patient).await;
    let paid = node.paid(&sample(2, SIZE), "unlimited").await;
    proxy.break_next(2, "get", "data", Fault::Late(Duration::from_secs(15)));
    let call = node.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send();
    let accepted = expect(call.await.unwrap(), &[202]).await;
    assert_eq!(accepted, json!({ "contentHash": paid.hash, "status": "under_way" }));
    let history = async || -> Value {
        let path = format!("/v1/storage/verifications/{}", paid.hash);
        expect(node.admin(Method::GET, &path).send().await.unwrap(), &[200]).await
    };
    assert_eq!(history().await["items"], json!([]));
    within(PATIENCE, "what it found is told", async || history().await["items"][0]["finding"] == "intact").await;
    node.finish().await;
}
