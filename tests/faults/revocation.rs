//! Receipts that lose their right while they are used.

use serde_json::json;

use crate::{
    node::{TestNode, expect, expect_problem, sample},
    still::{at_rest, bytes_of, usage_rows},
    wire::Wire,
};

on_both!(a_refunded_receipt_stops_its_running_stream_and_starts_none, async |node: &mut TestNode| {
    // A megabyte a second: it would run for a minute.
    node.tier("slow", json!({ "maxBandwidthMbps": 8, "bytesPerHour": 1_u64 << 40 })).await;
    let bytes = sample(5, 60 << 20);
    let paid = node.paid(&bytes, "slow").await;
    let mut wire = Wire::streaming(node, &paid).await;
    let first = wire.read_on(200_000).await;
    assert_eq!(first, bytes[..200_000]);

    expect(node.set_status(&paid.receipt, "refunded").await, &[200]).await;
    let rest = wire.read_on(bytes.len()).await;
    assert!(first.len() + rest.len() < bytes.len() / 2, "the stream was cut");
    assert_eq!(rest, bytes[first.len()..first.len() + rest.len()], "what came is what was stored");
    expect_problem(node.stream(&paid).send().await.unwrap(), 403, "receipt-refunded").await;

    at_rest(node).await;
    assert_eq!(node.metric("penstock_streams_revoked_total", "").await, 1.0);
    let rows = usage_rows(node, &paid.receipt).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["outcome"], "revoked");
    let charged = bytes_of(&rows);
    let received = (first.len() + rest.len()) as u64;
    assert!((received..=received + (64 << 10)).contains(&charged), "{charged} of {received}");
    assert_eq!(node.charged(&paid.receipt).await, (charged, 1));
});
