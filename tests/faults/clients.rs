//! Clients that leave, and clients that do not read.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    node::{On, Setup, TestNode, sample},
    patience::eventually,
    still::{at_rest, bytes_of, open_blobs_and_sockets, usage_rows},
    wire::Wire,
};

/// Many, but fewer than a worker has room for.
const AT_A_TIME: usize = 64;

/// Limits that nothing reaches, so that leases are taken and given back all the same.
fn roomy() -> serde_json::Value {
    json!({ "bytesPerHour": 1_u64 << 50, "requestsPerHour": 1_u64 << 40 })
}

/// Clients that leave early, late and in the middle.
async fn streams_that_clients_leave_leave_nothing_behind(on: On, clients: u64) {
    let mut node = TestNode::start(on).await;
    node.tier("roomy", roomy()).await;
    let bytes = sample(1, 6 << 20);
    let paid = node.paid(&bytes, "roomy").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    at_rest(&node).await;
    let (_, sockets) = open_blobs_and_sockets(&node);

    let shared: &TestNode = &node;
    let read: u64 = stream::iter(0..clients)
        .map(|client| {
            let paid = &paid;
            async move {
                match client % 4 {
                    // Gone before the answer.
                    0 => {
                        drop(Wire::asking(shared, paid).await);
                        0
                    }
                    // After the head.
                    1 => {
                        drop(Wire::streaming(shared, paid).await);
                        0
                    }
                    // Somewhere in the middle.
                    _ => {
                        let some = (client.wrapping_mul(7919) % 400_000) as usize + 1;
                        let got = Wire::streaming(shared, paid).await.read_on(some).await;
                        assert_eq!(got.len(), some, "a stream goes on while its client is there");
                        got.len() as u64
                    }
                }
            }
        })
        .buffer_unordered(AT_A_TIME)
        .fold(0, async |sum, got| sum + got)
        .await;

    at_rest(&node).await;
    // One blob may be kept open for the next stream. Connections to the database come and go.
    eventually("no file or socket is left open", async || {
        let (blobs, open) = open_blobs_and_sockets(&node);
        blobs <= 1 && open <= sockets + 15
    })
    .await;
    let (charged, requests) = node.charged(&paid.receipt).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    assert_eq!(bytes_of(&rows), charged);
    assert_eq!(rows.len() as u64, requests);
    let size = bytes.len() as u64;
    assert!(charged >= read + size, "what clients have read was charged: {charged} of {read}");
    assert!(charged < size + clients * size / 2, "what they left was not: {charged}");
    assert!(rows.iter().all(|row| row["outcome"] == "aborted" || row["bytesSent"] == size));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_that_clients_leave_leave_nothing_behind() {
    streams_that_clients_leave_leave_nothing_behind(On::Sqlite, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_clients_leave_leave_nothing_behind_on_postgres() {
    streams_that_clients_leave_leave_nothing_behind(On::Postgres, 1_000).await;
}

on_both!(a_client_that_leaves_in_the_middle_is_charged_what_it_could_have_got, async |node: &mut TestNode| {
    // More than the kernel takes of what nobody reads.
    let bytes = sample(2, 48 << 20);
    node.tier("roomy", roomy()).await;
    let paid = node.paid(&bytes, "roomy").await;
    let mut wire = Wire::streaming(node, &paid).await;
    let got = wire.read_on(3_000_000).await;
    assert_eq!(got, bytes[..3_000_000]);
    drop(wire);
    at_rest(node).await;
    let (charged, requests) = node.charged(&paid.receipt).await;
    assert!((3_000_000..4_000_000).contains(&charged), "{charged}");
    assert_eq!(requests, 1);
    let rows = usage_rows(node, &paid.receipt).await;
    assert_eq!((rows.len(), rows[0]["outcome"].as_str(), bytes_of(&rows)), (1, Some("aborted"), charged));
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_cut_and_its_slot_comes_back() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__STALL_TIMEOUT", "2s").start().await;
    let bytes = sample(3, 32 << 20);
    node.tier("single", json!({ "bytesPerHour": 1_u64 << 40, "maxConcurrentStreams": 1 })).await;
    let paid = node.paid(&bytes, "single").await;
    let mut stalled = Wire::streaming(&node, &paid).await;
    let got = stalled.read_on(100_000).await;
    assert_eq!(got, bytes[..100_000]);
    let refused = node.stream_apart(&paid).send().await.unwrap();
    crate::node::expect_problem(refused, 429, "too-many-streams").await;
    // Nobody reads, and nobody closes.
    at_rest(&node).await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    let rest = stalled.read_on(bytes.len()).await;
    assert!(got.len() + rest.len() < bytes.len(), "what was cut is incomplete");
    at_rest(&node).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    assert_eq!(rows.len(), 2);
    assert!(bytes_of(&rows) < 2 * bytes.len() as u64, "what was not sent is not charged");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_gets_everything() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__STALL_TIMEOUT", "2s").start().await;
    let bytes = sample(4, 8 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut wire = Wire::streaming(&node, &paid).await;
    // Longer than the stall timeout in all, but never so long without a byte.
    assert_eq!(wire.read_slowly(bytes.len(), Duration::from_millis(60)).await, bytes);
    drop(wire);
    at_rest(&node).await;
    assert_eq!(node.charged(&paid.receipt).await, (bytes.len() as u64, 1));
    node.finish().await;
}

on_both!(a_crowd_that_comes_at_once_is_let_in_as_long_as_the_quota_lasts, async |node: &mut TestNode| {
    // One lease covers only some of them: the others wait for the next.
    let bytes = sample(6, 3 << 20);
    node.tier("crowd", json!({ "bytesPerMonth": 60 * bytes.len(), "requestsPerMonth": 1000 })).await;
    let paid = node.paid(&bytes, "crowd").await;
    let shared: &TestNode = node;
    let statuses: Vec<u16> = stream::iter(0..24)
        .map(|_| async {
            let answer = shared.stream(&paid).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(answer.bytes().await.unwrap() == bytes, "{status}");
            status
        })
        .buffer_unordered(24)
        .collect()
        .await;
    assert_eq!(statuses, [200; 24]);
    at_rest(node).await;
    assert_eq!(node.charged(&paid.receipt).await, (24 * bytes.len() as u64, 24));
});
