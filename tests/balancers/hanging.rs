//! Nodes whose database hangs, behind balancers that look after them.

use std::time::{Duration, Instant};

use crate::{
    cluster::Cluster,
    front::Kind,
    node::{TestNode, expect, expect_problem, sample},
    pair::{Pair, behind_both},
    patience::eventually,
};

/// Looks that a balancer must have made of a node before its opinion counts: twice as many as HAProxy needs to take one out.
const LOOKS: f64 = 4.0;

async fn looks(node: &TestNode) -> f64 {
    node.metric("penstock_http_requests_total", "route=\"/health/ready\"").await
}

/// Looks at each node until the balancer has, often enough. HAProxy looks by itself; nginx does not, so the test does.
async fn looked_at(pair: &Pair) {
    for node in &pair.nodes {
        let before = looks(node).await;
        eventually("the balancer looks", async || {
            let began = Instant::now();
            let ready = expect(node.get("/health/ready").send().await.unwrap(), &[200, 503]).await;
            assert!(ready["ageMs"]["database"].is_u64(), "{ready}");
            // A second is what balancers and orchestrators wait by default.
            assert!(began.elapsed() < Duration::from_secs(1), "the answer comes at once: {ready}");
            looks(node).await >= before + 2.0 * LOOKS
        })
        .await;
    }
}

async fn says(pair: &Pair, status: u16, database: &str) {
    for node in &pair.nodes {
        eventually("readiness says so", async || {
            let ready = node.get("/health/ready").send().await.unwrap();
            let is = ready.status().as_u16();
            is == status && expect(ready, &[200, 503]).await["dependencies"]["database"] == database
        })
        .await;
    }
}

behind_both!(a_database_that_hangs_takes_no_node_out_while_memory_lasts, async |kind| {
    let cluster = Cluster::start(&[]).await;
    let settings = [("PENSTOCK_QUOTA__ENTRY_TTL", "10min")];
    let mut pair = Pair::on_database_of(&cluster.url(), kind, &settings).await;
    let bytes = sample(94, 100_000);
    let paid = pair.nodes[0].paid(&bytes, "unlimited").await;
    for node in &pair.nodes {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes, "each has it in memory");
    }
    cluster.pause();
    says(&pair, 200, "down").await;
    looked_at(&pair).await;
    for _ in 0..6 {
        assert_eq!(pair.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
    assert!(!pair.front.said().contains(" is DOWN"), "{}", pair.front.said());
    cluster.resume();
    says(&pair, 200, "ok").await;
    pair.finish().await;
});

behind_both!(clients_of_nodes_whose_memory_is_over_are_told_by_the_nodes_what_is_wrong, async |kind| {
    let cluster = Cluster::start(&[]).await;
    let short = [("PENSTOCK_QUOTA__LEASE_TTL", "4s"), ("PENSTOCK_QUOTA__HEARTBEAT", "1s")];
    let mut pair = Pair::on_database_of(&cluster.url(), kind, &short).await;
    let paid = pair.nodes[0].paid(&sample(95, 1000), "unlimited").await;
    cluster.pause();
    says(&pair, 503, "down").await;
    if kind == Kind::HaProxy {
        eventually("both are taken out", async || pair.front.said().matches(" is DOWN").count() >= 2).await;
    }
    let refused = pair.stream(&paid).send().await.unwrap();
    expect_problem(refused, 503, "dependency-unavailable").await;
    cluster.resume();
    says(&pair, 200, "ok").await;
    eventually("requests are served again", async || pair.stream(&paid).send().await.unwrap().status() == 200).await;
    pair.finish().await;
});
