//! Instances that are killed in the middle.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    fleet::{Fleet, Got},
    node::{Paid, sample},
};

const SIZE: u64 = 50_000;
const LIMIT: u64 = 20 << 20;

/// How long the rest of a quota may take to come back before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Leases that are over soon after their instance is, and somebody who looks for them when no stream is refused.
const SHORT_LEASES: [(&str, &str); 3] =
    [("PENSTOCK_QUOTA__LEASE_TTL", "8s"), ("PENSTOCK_QUOTA__HEARTBEAT", "2s"), ("PENSTOCK_JANITOR__INTERVAL", "2s")];

/// A crowd on ten instances, of which three are killed when a third of the quota is used.
async fn three_killed(lost_lease: &str) -> (Fleet, Paid, Got) {
    let mut settings = SHORT_LEASES.to_vec();
    settings.push(("PENSTOCK_QUOTA__LOST_LEASE", lost_lease));
    let mut fleet = Fleet::start(&settings).await;
    fleet.nodes[0].tier("tight", json!({ "bytesPerMonth": LIMIT })).await;
    let paid = fleet.nodes[0].paid(&sample(8, SIZE as usize), "tight").await;
    let got = Got::default();
    let doomed: Vec<u32> = fleet.nodes[..3].iter().map(|node| node.pid()).collect();
    let killer = async {
        while got.bytes() < LIMIT / 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for pid in doomed {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    };
    tokio::join!(fleet.crowd(24, &paid, &got), killer);
    for node in &mut fleet.nodes[..3] {
        node.kill().await;
    }
    (fleet, paid, got)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_killed_instances_give_nothing_away() {
    let (fleet, paid, got) = three_killed("charge").await;
    fleet.sweep_up(&paid, &got).await;
    assert!(got.bytes() <= LIMIT, "{got:?}");
    fleet.come_to_rest().await;
    // What they held is charged once their time is over, and so every byte of the quota is accounted for.
    let survivor = &fleet.nodes[5];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let month = survivor.quota(&paid.receipt).await["windows"]["month"].clone();
        let (used, reserved) = (month["bytesUsed"].as_u64().unwrap(), month["bytesReserved"].as_u64().unwrap());
        assert!(used + reserved <= LIMIT, "{month}");
        assert!(used + reserved >= got.bytes(), "clients got no more than what was taken: {month}");
        // The survivors may hold what is less than a stream.
        if reserved < SIZE * 7 && used >= got.bytes() {
            break;
        }
        assert!(Instant::now() < deadline, "what the dead held is never charged: {month}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("{} of {LIMIT} bytes received, {} requests lost", got.bytes(), got.lost.load(SeqCst));
    fleet.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_three_killed_instances_held_is_usable_again_when_their_leases_are_over() {
    let (fleet, paid, got) = three_killed("release").await;
    let deadline = Instant::now() + PATIENCE;
    let survivor = &fleet.nodes[5];
    loop {
        fleet.sweep_up(&paid, &got).await;
        fleet.come_to_rest().await;
        let used = survivor.charged(&paid.receipt).await.0;
        assert!(used <= LIMIT, "{used}");
        if LIMIT - used < SIZE {
            break;
        }
        assert!(Instant::now() < deadline, "{used} of {LIMIT} is all that can be had");
    }
    fleet.finish().await;
}
