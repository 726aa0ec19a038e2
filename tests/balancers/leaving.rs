//! Nodes that leave, come back and die behind a balancer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use futures::future::join_all;
use reqwest::StatusCode;

use crate::{
    node::{Paid, sample},
    pair::{Pair, answers, behind_both},
    patience::eventually,
};

const CLIENTS: usize = 3;

/// Requests that show that something goes on.
const SOME: u64 = 40;

/// Clients that stream and buy receipts, each one request after the other.
#[derive(Default)]
struct Load {
    done: AtomicU64,
    lost: AtomicU64,
    stopped: AtomicBool,
}

impl Load {
    async fn run(&self, pair: &Pair, paid: &Paid, bytes: &[u8]) {
        join_all((0..CLIENTS).map(|_| async {
            while !self.stopped.load(SeqCst) {
                if self.is_served(pair, paid, bytes).await.is_some() {
                    self.done.fetch_add(1, SeqCst);
                } else {
                    self.lost.fetch_add(1, SeqCst);
                }
            }
        }))
        .await;
    }

    async fn is_served(&self, pair: &Pair, paid: &Paid, bytes: &[u8]) -> Option<()> {
        let answer = pair.stream(paid).send().await.ok()?;
        (answer.status() == StatusCode::OK).then_some(())?;
        let got = answer.bytes().await.ok()?;
        assert!(got == bytes, "never wrong bytes");
        let receipt = pair.receipt(&paid.version).await.send().await.ok()?;
        (receipt.status() == StatusCode::CREATED).then_some(())
    }

    async fn goes_on(&self) {
        let from = self.done.load(SeqCst);
        eventually("requests are served", async || self.done.load(SeqCst) >= from + SOME).await;
    }
}

behind_both!(no_request_is_lost_when_a_node_leaves_and_only_running_ones_when_it_dies, async |kind| {
    let settings = [("PENSTOCK_SERVER__DRAIN_NOTICE", "3s"), ("PENSTOCK_USAGE__BATCH_AGE", "5ms")];
    let mut pair = Pair::behind(kind, &settings).await;
    let bytes = sample(93, 50_000);
    let paid = pair.nodes[0].paid(&bytes, "unlimited").await;
    let load = Load::default();

    let pid = |index: usize| pair.nodes[index].pid();
    let (leaver, victim) = (pid(0), pid(1));
    let signal = |pid: u32, signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    };
    let leaving = async {
        load.goes_on().await;
        signal(leaver, nix::sys::signal::SIGTERM);
        eventually("it is gone", async || !answers_at_all(&pair, 0).await).await;
        load.goes_on().await;
        load.stopped.store(true, SeqCst);
    };
    tokio::join!(load.run(&pair, &paid, &bytes), leaving);
    assert_eq!(load.lost.load(SeqCst), 0, "a node that leaves costs no request");

    let address = pair.nodes[0].address().to_owned();
    assert!(pair.nodes[0].ended().await.success());
    pair.nodes[0].set_env("PENSTOCK_BIND", &address);
    pair.nodes[0].boot().await;
    let load = Load::default();
    let dying = async {
        eventually("the node that came back is asked again", async || {
            answers(&pair.nodes[0]).await && pair.nodes[0].metric("penstock_streams_granted_total", "").await > 0.0
        })
        .await;
        signal(victim, nix::sys::signal::SIGKILL);
        load.goes_on().await;
        load.goes_on().await;
        load.stopped.store(true, SeqCst);
    };
    tokio::join!(load.run(&pair, &paid, &bytes), dying);
    let lost = load.lost.load(SeqCst);
    assert!(lost <= CLIENTS as u64, "at most what each client had under way: {lost}");

    assert!(!pair.nodes[1].ended().await.success());
    pair.nodes[0].finish().await;
});

async fn answers_at_all(pair: &Pair, index: usize) -> bool {
    pair.nodes[index].get("/health/live").send().await.is_ok()
}
