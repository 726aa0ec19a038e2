//! Instances whose clocks disagree by five seconds.

use serde_json::json;

use crate::{
    faketime::ahead,
    fleet::{Fleet, Got},
    node::sample,
};

/// Every second instance is five seconds ahead. Time itself goes on as it does.
fn skewed(number: usize) -> Vec<(&'static str, String)> {
    if number.is_multiple_of(2) {
        return Vec::new();
    }
    ahead("+5s").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_disagree_by_five_seconds_change_no_limit() {
    const LIMIT: u64 = 5 << 20;
    const SIZE: u64 = 50_000;
    let fleet = Fleet::start_each(skewed).await;
    fleet.nodes[0].tier("tight", json!({ "bytesPerMonth": LIMIT, "maxConcurrentStreams": 100 })).await;
    let paid = fleet.nodes[1].paid(&sample(9, SIZE as usize), "tight").await;
    let got = Got::default();
    fleet.crowd(24, &paid, &got).await;
    fleet.sweep_up(&paid, &got).await;
    assert_eq!(got.streams(), LIMIT / SIZE, "{got:?}");
    fleet.come_to_rest().await;
    for node in &fleet.nodes {
        assert_eq!(node.charged(&paid.receipt).await, (got.bytes(), got.streams()), "charged as received");
    }
    fleet.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_stops_a_running_stream_on_an_instance_whose_clock_is_ahead() {
    let fleet = Fleet::start_each(skewed).await;
    let paid = fleet.nodes[0].paid(&sample(10, 8 << 20), "standard").await;
    let mut running = fleet.nodes[1].stream(&paid).send().await.unwrap();
    running.chunk().await.unwrap().expect("the stream runs");
    assert_eq!(fleet.nodes[2].set_status(&paid.receipt, "refunded").await.status(), 200);
    // The tier's bandwidth leaves some seconds of it to be sent.
    let cut = loop {
        match running.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut, "a refunded receipt's stream is cut, never ended cleanly");
    fleet.come_to_rest().await;
    fleet.finish().await;
}
