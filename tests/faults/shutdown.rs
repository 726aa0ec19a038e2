//! Nodes that are asked to stop.

use serde_json::json;

use crate::{
    node::{On, Paid, Setup, TestNode, sample},
    patience::eventually,
    still::{bytes_of, usage_rows},
    wire::Wire,
};

/// A stream of a megabyte a second.
async fn slow(node: &TestNode, seed: u64, size: usize) -> (Paid, Vec<u8>) {
    node.tier("slow", json!({ "maxBandwidthMbps": 8, "bytesPerHour": 1_u64 << 40 })).await;
    let bytes = sample(seed, size);
    (node.paid(&bytes, "slow").await, bytes)
}

/// Whether a new stream is turned away: by a problem document, or because nobody listens any more.
async fn refuses_new_streams(node: &TestNode, paid: &Paid) -> bool {
    // On a connection of its own.
    match node.stream(paid).header("connection", "close").send().await {
        Ok(answer) if answer.status() == 503 => {
            let problem = answer.text().await.unwrap();
            assert!(problem.contains("urn:penstock:problem:shutting-down"), "{problem}");
            true
        }
        Ok(answer) => {
            assert!(answer.status().is_success() || answer.status() == 429, "{}", answer.status());
            false
        }
        Err(error) => {
            assert!(error.is_connect() || error.is_request(), "{error:?}");
            true
        }
    }
}

on_both!(sigterm_lets_running_streams_end_and_starts_none, async |node: &mut TestNode| {
    let (paid, bytes) = slow(node, 60, 3 << 20).await;
    let other = node.paid(&sample(61, 1000), "unlimited").await;
    let mut wire = Wire::streaming(node, &paid).await;
    let mut got = wire.read_on(100_000).await;
    node.signal(libc::SIGTERM);
    eventually("new streams are refused", async || refuses_new_streams(node, &other).await).await;
    got.extend(wire.read_on(bytes.len() - got.len()).await);
    assert!(got == bytes, "a running stream is delivered to its end: {} bytes", got.len());
    drop(wire);
    assert!(node.ended().await.success());

    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (bytes.len() as u64, 1));
    assert_eq!(node.quota(&paid.receipt).await["windows"]["hour"]["bytesReserved"], 0, "no lease is left");
});

/// A terminal that is closed sends SIGHUP, often twice, and takes no line of the log any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_terminal_is_closed_drains_as_with_sigterm() {
    let mut node = TestNode::start(On::Sqlite).await;
    let (paid, bytes) = slow(&node, 65, 2 << 20).await;
    let other = node.paid(&sample(66, 1000), "unlimited").await;
    assert!(node.terminate().await.success());
    drop(node.boot_with_stderr().await);
    let mut wire = Wire::streaming(&node, &paid).await;
    let mut got = wire.read_on(100_000).await;
    node.signal(libc::SIGHUP);
    node.signal(libc::SIGHUP);
    eventually("new streams are refused", async || refuses_new_streams(&node, &other).await).await;
    node.signal(libc::SIGHUP);
    got.extend(wire.read_on(bytes.len() - got.len()).await);
    assert!(got == bytes, "a running stream is delivered to its end: {} bytes", got.len());
    assert!(node.ended().await.success());

    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (bytes.len() as u64, 1));
    assert_eq!(node.quota(&paid.receipt).await["windows"]["hour"]["bytesReserved"], 0, "no lease is left");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotates_logs_stops_nothing_and_ctrl_backslash_drains() {
    let mut node = TestNode::start(On::Sqlite).await;
    let paid = node.paid(&sample(67, 1000), "unlimited").await;
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGUSR1] {
        node.signal(signal);
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 1000);
    }
    node.signal(libc::SIGQUIT);
    assert!(node.ended().await.success());
    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (3000, 3));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_gives_notice_serves_until_balancers_have_seen_it() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__DRAIN_NOTICE", "3s").start().await;
    let paid = node.paid(&sample(63, 1000), "unlimited").await;
    assert!(!node.stream(&paid).send().await.unwrap().headers().contains_key("connection"));
    node.signal(libc::SIGTERM);
    eventually("it says that it leaves", async || node.get("/health/ready").send().await.unwrap().status() == 503)
        .await;
    let answer = node.stream(&paid).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["connection"].as_bytes()), (200, &b"close"[..]));
    assert_eq!(node.put(&sample(64, 1000), "text/plain").await.len(), 64, "uploads are taken as well");
    eventually("then it is over", async || refuses_new_streams(&node, &paid).await).await;
    assert!(node.ended().await.success());
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlasts_the_grace_is_cut_and_charged_what_was_sent() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__DRAIN_GRACE", "1s").start().await;
    let (paid, bytes) = slow(&node, 62, 40 << 20).await;
    let mut wire = Wire::streaming(&node, &paid).await;
    let mut got = wire.read_on(100_000).await;
    node.signal(libc::SIGTERM);
    got.extend(wire.read_on(bytes.len() - got.len()).await);
    assert!(got.len() < bytes.len() / 2, "it was cut");
    assert!(got == bytes[..got.len()], "what came is what was stored");
    assert!(node.ended().await.success(), "usage is settled, so all is well");

    node.boot().await;
    let rows = usage_rows(&node, &paid.receipt).await;
    assert_eq!((rows.len(), rows[0]["outcome"].as_str()), (1, Some("aborted")));
    let charged = bytes_of(&rows);
    assert!((got.len() as u64..bytes.len() as u64 / 2).contains(&charged), "{charged} of {}", got.len());
    assert_eq!(node.charged(&paid.receipt).await, (charged, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once() {
    // Longer than the test may wait for the end.
    let mut node = Setup::new(On::Sqlite)
        .env("PENSTOCK_SERVER__DRAIN_GRACE", "10min")
        .env("PENSTOCK_QUOTA__HEARTBEAT", "300ms")
        .env("PENSTOCK_QUOTA__LEASE_TTL", "1s")
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        .start()
        .await;
    let (paid, _) = slow(&node, 63, 40 << 20).await;
    let other = node.paid(&sample(64, 1000), "unlimited").await;
    let mut wire = Wire::streaming(&node, &paid).await;
    wire.read_on(100_000).await;
    node.signal(libc::SIGTERM);
    eventually("the node drains", async || refuses_new_streams(&node, &other).await).await;
    node.signal(libc::SIGTERM);
    assert!(!node.ended().await.success(), "what was not settled is not a success");

    // As after a kill, the next start charges what was sent, and gives the lease back.
    node.boot().await;
    let month = node.quota(&paid.receipt).await["windows"]["month"].clone();
    assert_eq!((&month["requestsUsed"], &month["bytesReserved"]), (&json!(1), &json!(0)), "{month}");
    assert!((100_000..40 << 20).contains(&month["bytesUsed"].as_u64().unwrap()), "{month}");
    node.finish().await;
}
