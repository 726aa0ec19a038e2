//! Every byte accounted for: no overshoot, no undershoot but for what does not fit, and never more than was sent.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::{
    node::{TestNode, expect, expect_problem, sample},
    wire,
};

const PIECE: u64 = 100_000;

on_both!(a_tier_lets_exactly_its_bytes_through_however_many_ask_at_once, async |node: &mut TestNode| {
    let limit = 10 * PIECE + PIECE / 2;
    node.tier("exact", json!({ "bytesPerMonth": limit })).await;
    let paid = node.paid(&sample(40, PIECE as usize), "exact").await;
    let answers = futures::future::join_all((0..40).map(|_| node.stream(&paid).send())).await;
    let mut delivered = 0;
    for answer in answers.into_iter().map(Result::unwrap) {
        if answer.status() == 200 {
            delivered += answer.bytes().await.unwrap().len() as u64;
        } else {
            let problem = expect_problem(answer, 429, "quota-exceeded").await;
            assert_eq!(problem["limit"], limit);
        }
    }
    assert_eq!(delivered, 10 * PIECE, "ten fit, and ten go through");
    let rest = node.stream(&paid).header("range", format!("bytes=0-{}", PIECE / 2 - 1)).send().await.unwrap();
    assert_eq!(rest.status(), 206, "the rest fits exactly");
    assert_eq!(rest.bytes().await.unwrap().len() as u64, PIECE / 2);
    let over = node.stream(&paid).header("range", "bytes=0-0").send().await.unwrap();
    assert_eq!(expect_problem(over, 429, "quota-exceeded").await["remaining"], 0);
    assert_eq!(node.charged(&paid.receipt).await, (limit, 11));
});

on_both!(ranges_of_many_sizes_at_once_never_overshoot, async |node: &mut TestNode| {
    let limit = 1_000_000;
    node.tier("mixed", json!({ "bytesPerMonth": limit, "bytesPerDay": 2 * limit })).await;
    let paid = node.paid(&sample(41, 200_000), "mixed").await;
    let sizes: Vec<u64> = (0..60).map(|i| 1 + (i * 7919) % 90_000).collect();
    let sends = sizes.iter().map(|size| node.stream(&paid).header("range", format!("bytes=0-{}", size - 1)).send());
    let answers = futures::future::join_all(sends).await;
    let (mut delivered, mut requests, mut smallest_refused) = (0, 0, u64::MAX);
    for (answer, size) in answers.into_iter().map(Result::unwrap).zip(&sizes) {
        if answer.status() == 206 {
            delivered += answer.bytes().await.unwrap().len() as u64;
            requests += 1;
        } else {
            expect_problem(answer, 429, "quota-exceeded").await;
            smallest_refused = smallest_refused.min(*size);
        }
    }
    assert!(delivered <= limit);
    assert_eq!(node.charged(&paid.receipt).await, (delivered, requests));
    // Whatever is left can be had to the last byte.
    let left = limit - delivered;
    if left > 0 {
        assert!(left < smallest_refused, "{left} bytes were left when {smallest_refused} were refused");
        let rest = node.stream(&paid).header("range", format!("bytes=0-{}", left - 1)).send().await.unwrap();
        assert_eq!(rest.status(), 206);
        assert_eq!(rest.bytes().await.unwrap().len() as u64, left);
    }
    let over = node.stream(&paid).header("range", "bytes=0-0").send().await.unwrap();
    expect_problem(over, 429, "quota-exceeded").await;
    assert_eq!(node.charged(&paid.receipt).await.0, limit);
});

on_both!(a_client_that_leaves_is_charged_for_what_it_got, async |node: &mut TestNode| {
    let (size, read) = (16 << 20, 3 << 20);
    node.tier("large", json!({ "bytesPerMonth": size })).await;
    let paid = node.paid(&sample(42, size), "large").await;
    let mut connection = wire::paused_stream(node, &paid, read - 100_000).await;
    connection.read_exact(&mut vec![0; 10_000]).await.unwrap();
    drop(connection);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let (charged, requests) = node.charged(&paid.receipt).await;
    assert_eq!(requests, 1);
    // The last piece is counted once the socket has taken it; what the socket had taken and the client had not is charged.
    assert!(charged as usize >= read - (1 << 20), "{charged}");
    assert!((charged as usize) < size / 4 * 3, "{charged}");
    let path = format!("/v1/streaming/usage?receiptId={}", paid.receipt);
    let usage = expect(node.admin(Method::GET, &path).send().await.unwrap(), &[200]).await;
    assert_eq!(usage["items"][0]["bytesSent"], charged);
    assert_eq!(usage["items"][0]["outcome"], "aborted");
    // What was reserved and not sent is free again, to the byte.
    let rest = size as u64 - charged;
    let answer = node.stream(&paid).header("range", format!("bytes=-{rest}")).send().await.unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(answer.bytes().await.unwrap().len() as u64, rest);
    assert_eq!(node.charged(&paid.receipt).await, (size as u64, 2));
});

on_both!(a_raised_limit_lets_the_next_stream_in, async |node: &mut TestNode| {
    node.tier("raised", json!({ "bytesPerMonth": 1000 })).await;
    let paid = node.paid(&sample(43, 1000), "raised").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 1000);
    expect_problem(node.stream(&paid).send().await.unwrap(), 429, "quota-exceeded").await;
    node.tier("raised", json!({ "bytesPerMonth": 2000 })).await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 1000);
    expect_problem(node.stream(&paid).send().await.unwrap(), 429, "quota-exceeded").await;
    assert_eq!(node.charged(&paid.receipt).await, (2000, 2));
});

/// Round trips to the database, but for those that go on whether anybody streams or not.
async fn round_trips(node: &TestNode) -> f64 {
    let page = node.get("/metrics").send().await.unwrap().text().await.unwrap();
    let mut total = 0.0;
    let lines = page.lines().filter(|line| line.starts_with("penstock_db_queries_total{"));
    for line in lines.filter(|line| !line.contains("statement=\"heartbeat\"")) {
        total += line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    }
    total
}

on_both!(a_thousand_streams_of_ten_receipts_take_at_most_fifty_round_trips, async |node: &mut TestNode| {
    // On a slow machine the streams take long, and batches that close by age, or whatever else goes on by the clock, would count
    // the machine's speed.
    node.set_env("PENSTOCK_USAGE__BATCH_AGE", "30s");
    node.set_env("PENSTOCK_QUOTA__CHANGE_POLL", "10s");
    node.set_env("PENSTOCK_LINEAGE__EMIT_INTERVAL", "60s");
    node.set_env("PENSTOCK_VERIFICATION__INTERVAL", "1h");
    assert!(node.terminate().await.success());
    node.boot().await;
    node.tier("generous", json!({ "bytesPerMonth": 1_u64 << 40, "requestsPerMonth": 1_000_000 })).await;
    let mut receipts = Vec::new();
    for seed in 0..10 {
        receipts.push(node.paid(&sample(50 + seed, 20_000), "generous").await);
    }
    let before = round_trips(node).await;
    for _ in 0..20 {
        let streams = (0..50).map(async |i| {
            let answer = node.stream(&receipts[i % 10]).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.bytes().await.unwrap().len(), 20_000);
        });
        futures::future::join_all(streams).await;
    }
    node.metric_becomes("penstock_usage_settled_total", "", 1000.0).await;
    let taken = round_trips(node).await - before;
    assert!(taken <= 50.0, "{taken} round trips for 1,000 streams");
    assert_eq!(node.charged(&receipts[0].receipt).await, (2_000_000, 100));
});

on_sqlite!(all_streams_of_a_receipt_together_keep_to_its_bandwidth, async |node: &mut TestNode| {
    let (rate, burst) = (2_000_000.0, 500_000.0);
    node.tier(
        "slow",
        json!({ "maxBandwidthMbps": rate * 8.0 / 1e6, "burstBytesAllowance": burst as u64, "burstDurationMinutes": 600 }),
    )
    .await;
    let size = 2_500_000;
    let paid = node.paid(&sample(44, size), "slow").await;
    let began = Instant::now();
    let both = futures::future::join_all(
        (0..2).map(async |_| node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len()),
    );
    assert_eq!(both.await, [size, size]);
    // Beside the burst, a tenth of a second may go ahead of the rate.
    let least = (2.0 * size as f64 - burst) / rate - 0.11;
    assert!(began.elapsed().as_secs_f64() >= least, "{:?} instead of {least} s", began.elapsed());
});
