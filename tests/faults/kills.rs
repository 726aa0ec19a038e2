//! Nodes that are killed at any moment, again and again, while clients stream: each stream whose bytes were sent is charged once, by what
//! its client received.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use reqwest::Client;
use serde_json::json;

use crate::{
    node::{On, Paid, Setup, TestNode, client, sample},
    still::{bytes_of, nothing_held, usage_rows},
};

/// How often a node is killed; a longer run names another number.
const KILLS: &str = "PENSTOCK_TEST_KILLS";
const FEW: u64 = 12;

const SMALL: usize = 100_000;
const LARGE: usize = 6 << 20;

/// Of one stream that was cut: the largest step between two notes, and the pieces that may be on their way from the note to the kernel.
/// What the kernel has, it delivers after the node's death, so the client has received it.
const MOST_UNRECEIVED: u64 = (256 << 10) + 3 * (32 << 10);

/// Clients of each receipt.
const CLIENTS: usize = 2;

/// What the clients of one receipt received.
#[derive(Debug, Default)]
struct Received {
    bytes: AtomicU64,
    whole: AtomicU64,
    /// Requests that did not end well; the node may have counted them or not.
    other: AtomicU64,
}

/// Where the node listens now, and whether clients go on.
struct Stage {
    base: Mutex<String>,
    ends: AtomicBool,
}

async fn streams(client: Client, stage: Arc<Stage>, paid: Paid, received: Arc<Received>) {
    while !stage.ends.load(SeqCst) {
        let url = format!("{}/v1/streaming/data/{}", stage.base.lock().unwrap(), paid.hash);
        let answer = client.get(url).header("x-receipt-id", &paid.receipt).send().await;
        let Ok(mut answer) = answer else {
            received.other.fetch_add(1, Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if answer.status() != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let end = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    received.bytes.fetch_add(chunk.len() as u64, Relaxed);
                }
                Ok(None) => break &received.whole,
                Err(_) => break &received.other,
            }
        };
        end.fetch_add(1, Relaxed);
    }
}

/// Kills the node while it starts, and starts it.
async fn start_twice(node: &mut TestNode, after: Duration) {
    let mut process = node.command().arg("serve").stdout(std::process::Stdio::null()).spawn().unwrap();
    tokio::time::sleep(after).await;
    process.kill().await.unwrap();
    node.boot().await;
}

async fn killed_while_clients_stream(on: On) {
    let kills = std::env::var(KILLS).map_or(FEW, |kills| kills.parse().expect("a number of kills"));
    let mut node = Setup::new(on)
        .env("PENSTOCK_LOG__LEVEL", "info")
        .env("PENSTOCK_QUOTA__HEARTBEAT", "300ms")
        .env("PENSTOCK_QUOTA__LEASE_TTL", "3s")
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        .start()
        .await;
    let limit = 1_u64 << 40;
    let limits = json!({
        "bytesPerHour": limit, "bytesPerDay": limit, "bytesPerMonth": limit,
        "requestsPerHour": 1_000_000, "requestsPerDay": 1_000_000, "requestsPerMonth": 1_000_000,
    });
    node.tier("limited", limits).await;
    let mut products = Vec::new();
    for (seed, size) in [(60, SMALL), (61, LARGE)] {
        for tier in ["unlimited", "limited"] {
            products.push((node.paid(&sample(seed, size), tier).await, Arc::<Received>::default(), tier, size));
        }
    }
    let stage = Arc::new(Stage { base: Mutex::new(node.url("")), ends: AtomicBool::new(false) });
    let clients: Vec<_> = products
        .iter()
        .flat_map(|(paid, received, ..)| std::iter::repeat_n((paid, received), CLIENTS))
        .map(|(paid, received)| tokio::spawn(streams(client(), Arc::clone(&stage), paid.clone(), Arc::clone(received))))
        .collect();
    let mut dice = fastrand::Rng::new();
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.u64(0..700))).await;
        node.kill().await;
        if kill % 4 == 3 {
            start_twice(&mut node, Duration::from_millis(dice.u64(0..600))).await;
        } else {
            node.boot().await;
        }
        *stage.base.lock().unwrap() = node.url("");
    }
    stage.ends.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    nothing_held(&node).await;
    // A clean stop gives the leases back and leaves nothing in the spool.
    assert!(node.terminate().await.success());
    node.boot().await;
    assert_eq!(node.metric("penstock_usage_spool_recovered", "").await, 0.0);
    for (paid, received, tier, size) in &products {
        let rows = usage_rows(&node, &paid.receipt).await;
        assert!(rows.iter().all(|row| row["outcome"] != "lost_lease"), "no lease is charged");
        let quota = node.quota(&paid.receipt).await["windows"].clone();
        let charged = bytes_of(&rows);
        // An hour or a day may have turned.
        let month = &quota["month"];
        assert_eq!((&month["bytesUsed"], &month["requestsUsed"]), (&json!(charged), &json!(rows.len())), "{month}");
        for window in ["hour", "day", "month"].map(|window| &quota[window]) {
            assert_eq!((&window["bytesReserved"], &window["requestsReserved"]), (&json!(0), &json!(0)), "{window}");
        }
        let (bytes, whole) = (received.bytes.load(SeqCst), received.whole.load(SeqCst));
        let (requests, other) = (rows.len() as u64, received.other.load(SeqCst));
        assert!((whole..=whole + other).contains(&requests), "{requests} rows of {received:?}");
        let cut = requests - whole;
        let unreceived = charged.checked_sub(bytes).expect("no byte was received that is not charged");
        eprintln!(
            "{tier}, {size} bytes: {bytes} received in {whole} whole streams and {cut} others; {unreceived} charged more"
        );
        assert!(unreceived <= cut * MOST_UNRECEIVED.min(*size as u64), "{unreceived} bytes for {cut} streams");
    }
    let received = |product: &(_, Arc<Received>, _, _)| product.1.whole.load(SeqCst);
    assert!(products.iter().map(received).sum::<u64>() > kills, "clients received something");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stream_is_charged_once_by_what_was_received_whenever_the_node_is_killed_on_sqlite() {
    killed_while_clients_stream(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stream_is_charged_once_by_what_was_received_whenever_the_node_is_killed_on_postgres() {
    killed_while_clients_stream(On::Postgres).await;
}
