//! One receipt on ten instances at once.

use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, Got},
    node::{Paid, sample},
};

/// Runs a crowd against a tier with these limits until nothing is left anywhere; the fleet, the receipt and what was had.
async fn exhausted(tier: Value, size: usize, clients: usize) -> (Fleet, Paid, Got) {
    let fleet = Fleet::start(&[]).await;
    fleet.nodes[0].tier("tight", tier).await;
    let paid = fleet.nodes[0].paid(&sample(7, size), "tight").await;
    let got = Got::default();
    fleet.crowd(clients, &paid, &got).await;
    let crowd = got.streams();
    fleet.sweep_up(&paid, &got).await;
    fleet.come_to_rest().await;
    eprintln!(
        "{} streams, {} bytes; the crowd left {} streams; {} refusals, {} recalls, {} refills",
        got.streams(),
        got.bytes(),
        got.streams() - crowd,
        got.refused.load(std::sync::atomic::Ordering::SeqCst),
        fleet.metric("penstock_quota_recalls_total", "").await,
        fleet.metric("penstock_quota_refills_total", "").await,
    );
    (fleet, paid, got)
}

/// Every instance says the same of the receipt, and it is what clients received.
async fn all_agree(fleet: Fleet, paid: &Paid, got: &Got) {
    for node in &fleet.nodes {
        assert_eq!(node.charged(&paid.receipt).await, (got.bytes(), got.streams()), "charged as received");
    }
    fleet.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_instances_use_ten_mebibytes_to_the_end_and_not_a_byte_more() {
    const LIMIT: u64 = 10 << 20;
    const SIZE: u64 = 50_000;
    let (fleet, paid, got) = exhausted(json!({ "bytesPerMonth": LIMIT }), SIZE as usize, 24).await;
    assert!(got.bytes() <= LIMIT, "{got:?}");
    assert_eq!(got.streams(), LIMIT / SIZE, "what is left is less than one stream");
    all_agree(fleet, &paid, &got).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_instances_use_a_gibibyte_to_the_end_and_not_a_byte_more() {
    const LIMIT: u64 = 1 << 30;
    const SIZE: u64 = 2_000_000;
    let (fleet, paid, got) = exhausted(json!({ "bytesPerMonth": LIMIT }), SIZE as usize, 24).await;
    assert!(got.bytes() <= LIMIT, "{got:?}");
    assert_eq!(got.streams(), LIMIT / SIZE, "what is left is less than one stream");
    all_agree(fleet, &paid, &got).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_instances_use_a_hundred_requests_to_the_last_and_not_one_more() {
    let (fleet, paid, got) = exhausted(json!({ "requestsPerMonth": 100 }), 1000, 24).await;
    assert_eq!(got.streams(), 100);
    all_agree(fleet, &paid, &got).await;
}
