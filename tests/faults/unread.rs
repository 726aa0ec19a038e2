//! What is charged for a stream whose client does not read it: what left the node, by the kernel's own figures.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use crate::{
    kernel::{at_a_standstill, end_at},
    node::{On, Setup, TestNode, expect, sample},
    patience::eventually,
    still::{at_rest, bytes_of, usage_rows},
    wire::Wire,
};

/// At most one segment is on its way to a client whose buffer is full.
const SEGMENT: u64 = 64 << 10;

on_both!(what_a_client_leaves_unread_in_the_node_is_not_charged, async |node: &mut TestNode| {
    // More than both kernels would hold.
    let bytes = sample(11, 24 << 20);
    node.tier("roomy", json!({ "bytesPerHour": 1_u64 << 50 })).await;
    let (mut received, mut visits) = (0, 0);
    let paid = node.paid(&bytes, "roomy").await;
    for read in [0, 20_000, 3_000_000] {
        let mut wire = Wire::streaming(node, &paid).await;
        let got = wire.read_on(read).await;
        assert_eq!(got, bytes[..read]);
        // All that is not read fills the client's kernel, then the node's.
        received += read as u64 + at_a_standstill(wire.address()).await.unread;
        visits += 1;
        drop(wire);
        at_rest(node).await;
        let (charged, _) = node.charged(&paid.receipt).await;
        assert!((received..=received + visits * SEGMENT).contains(&charged), "{charged} charged, {received} received");
    }
    let rows = usage_rows(node, &paid.receipt).await;
    assert_eq!(bytes_of(&rows), node.charged(&paid.receipt).await.0);
    assert!(rows.iter().all(|row| row["outcome"] == "aborted"), "{rows:?}");

    // All of this is in the kernels.
    let bytes = sample(15, 250_000);
    let small = node.paid(&bytes, "roomy").await;
    let wire = Wire::streaming(node, &small).await;
    let received = at_a_standstill(wire.address()).await.unread;
    assert!(received < bytes.len() as u64);
    drop(wire);
    at_rest(node).await;
    let (charged, _) = node.charged(&small.receipt).await;
    assert!((received..=received + SEGMENT).contains(&charged), "{charged} charged, {received} received");
});

/// A client that reads nothing, at a refund.
async fn a_refund_drops_what_was_not_sent(node: &TestNode) {
    let bytes = sample(12, 24 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut wire = Wire::streaming(node, &paid).await;
    let got = wire.read_on(20_000).await;
    let held = at_a_standstill(wire.address()).await;
    expect(node.set_status(&paid.receipt, "refunded").await, &[200]).await;
    // No byte is read, so only the node can end this.
    eventually("the client's kernel has heard of the end", async || end_at(wire.address()).is_none()).await;
    let rest = wire.read_on(bytes.len()).await;
    assert_eq!(rest.len() as u64, held.unread, "nothing was sent after it");
    assert_eq!(rest, bytes[got.len()..got.len() + rest.len()]);
    at_rest(node).await;
    let rows = usage_rows(node, &paid.receipt).await;
    assert_eq!((rows.len(), rows[0]["outcome"].as_str()), (1, Some("revoked")));
    let received = (got.len() + rest.len()) as u64;
    assert!((received..=received + SEGMENT).contains(&bytes_of(&rows)), "{rows:?} for {received}");
    assert_eq!(node.metric("penstock_streams_revoked_total", "").await, 1.0);
}

on_both!(a_refund_cuts_a_client_that_reads_nothing_and_drops_what_was_not_sent, async |node: &mut TestNode| {
    a_refund_drops_what_was_not_sent(node).await;
});

/// As in a container or under systemd: the kernel may refuse such a node what it lets the administrator do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_capabilities_sends_nothing_after_a_refund_either() {
    let folder = tempfile::tempdir().unwrap();
    let launcher = folder.path().join("penstock");
    let script = "#!/bin/sh\nexec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all";
    fs::write(&launcher, format!("{script} {} \"$@\"\n", env!("CARGO_BIN_EXE_penstock"))).unwrap();
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).unwrap();
    let mut node = Setup::new(On::Sqlite).binary(launcher).start().await;
    let state = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    assert!(state.contains("CapEff:\t0000000000000000"), "{state}");
    a_refund_drops_what_was_not_sent(&node).await;
    node.finish().await;
}

/// The clients read at speeds of their own, so the node's kernel always has something to send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_refund_clients_of_all_speeds_got_no_byte_that_is_not_charged() {
    let mut node = TestNode::start(On::Sqlite).await;
    let bytes = sample(13, 32 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut clients = Vec::new();
    for pause in [0, 1, 5, 20, 100] {
        let mut wire = Wire::streaming(&node, &paid).await;
        let first = wire.read_on(100_000).await.len();
        let size = bytes.len();
        clients.push(tokio::spawn(async move {
            let rest = wire.read_by(16 << 10, size, std::time::Duration::from_millis(pause)).await;
            (first + rest.len()) as u64
        }));
    }
    expect(node.set_status(&paid.receipt, "refunded").await, &[200]).await;
    let mut received = 0;
    let count = clients.len() as u64;
    for client in clients {
        received += client.await.expect("it reads to the end");
    }
    at_rest(&node).await;
    let rows = usage_rows(&node, &paid.receipt).await;
    let charged = bytes_of(&rows);
    assert_eq!(rows.len() as u64, count);
    assert!((received..=received + count * SEGMENT).contains(&charged), "{charged} charged, {received} received");
    node.finish().await;
}

on_sqlite!(a_client_that_closes_its_side_after_its_request_gets_the_whole_answer, async |node: &mut TestNode| {
    let bytes = sample(14, 3 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut wire = Wire::asking(node, &paid).await;
    wire.send_no_more().await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(wire.read_on(bytes.len()).await, bytes);
    assert!(wire.read(1).await.expect("an end").is_empty(), "the node closes its side too");
    at_rest(node).await;
    assert_eq!(node.charged(&paid.receipt).await, (bytes.len() as u64, 1));
});
