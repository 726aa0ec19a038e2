//! Two nodes on one database, and a database that goes away.

use std::{cell::Cell, net::SocketAddr};

use futures::future::join_all;
use serde_json::Value;
use tokio_postgres::config::Host;
use uuid::Uuid;

use crate::{
    node::{On, Setup, TestNode, expect, expect_problem},
    patience::eventually,
    postgres::TestDatabase,
    proxy::Proxy,
    scene::{created, graph, names, post, post_batch, run_event},
};

async fn two_nodes(settings: &[(&'static str, &str)]) -> [TestNode; 2] {
    // Both keep content in one place.
    let blobs = tempfile::tempdir().unwrap().keep();
    let blobs = [("DATA_ROOT", blobs.to_str().unwrap().to_owned())];
    let settings = || settings.iter().map(|(name, value)| (*name, (*value).to_owned())).chain(blobs.clone());
    let one = Setup::new(On::Postgres).envs(settings()).start().await;
    let url = one.database.as_ref().unwrap().url();
    [one, Setup::on_database_of(&url).envs(settings()).start().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_shows_lineage_that_another_node_received_in_spite_of_its_cache() {
    let [mut one, mut other] = two_nodes(&[("PENSTOCK_LINEAGE__EMIT", "false")]).await;
    created(&one, &run_event("RUNNING", Uuid::now_v7(), "load", &["raw"], &[])).await;
    assert_eq!(names(&graph(&other, "dataset:db:raw", &[]).await), ["load", "raw"]);
    created(&one, &run_event("RUNNING", Uuid::now_v7(), "load", &["raw"], &["clean"])).await;
    assert_eq!(
        names(&graph(&one, "dataset:db:raw", &[]).await),
        ["clean", "load", "raw"],
        "where it was told, at once"
    );
    eventually("the other node shows it", async || names(&graph(&other, "dataset:db:raw", &[]).await).len() == 3).await;
    // Whichever of the two an event comes to, it is kept once.
    let event = run_event("COMPLETE", Uuid::now_v7(), "load", &["raw"], &["clean"]);
    created(&other, &event).await;
    assert_eq!(expect(post(&one, &event).await, &[200]).await["outcome"], "known");
    other.finish().await;
    one.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_tell_of_each_thing_once() {
    let [mut one, mut other] = two_nodes(&[("PENSTOCK_LINEAGE__EMIT_INTERVAL", "5ms")]).await;
    for number in 0..30 {
        let node = if number % 2 == 0 { &one } else { &other };
        node.put(format!("content {number}").as_bytes(), "text/plain").await;
    }
    let sum = async |name: &str, labels: &str| one.metric(name, labels).await + other.metric(name, labels).await;
    eventually("all has been told", async || sum("penstock_lineage_told_total", "outcome=\"told\"").await >= 30.0)
        .await;
    assert_eq!(sum("penstock_lineage_told_total", "outcome=\"told\"").await, 30.0);
    assert_eq!(sum("penstock_lineage_events_total", "outcome=\"new\"").await, 30.0);
    assert_eq!(sum("penstock_lineage_events_total", "outcome=\"known\"").await, 0.0, "nobody was told the same twice");
    other.finish().await;
    one.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_refused_during_an_outage_are_kept_once_when_sent_again() {
    let database = TestDatabase::empty().await;
    let config = database.config();
    let (Some(Host::Tcp(host)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        panic!("the test server listens on a port");
    };
    let server = SocketAddr::new(host.parse().unwrap(), *port);
    let mut proxy = Proxy::started(server).await;
    let url = database.url().replacen(&server.to_string(), &proxy.address().to_string(), 1);
    let mut node = Setup::on_database_of(&url)
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", "1s")
        .start()
        .await;
    let (refused, answered, over) = (Cell::new(0), Cell::new(0), Cell::new(false));
    // Senders that go on until they have an answer, while the way to the database breaks again and again.
    let sending = join_all((0..4).map(|_| async {
        let mut events = Vec::new();
        while !over.get() {
            let event = run_event("COMPLETE", Uuid::now_v7(), "load", &["raw"], &["clean"]);
            loop {
                let answer = post(&node, &event).await;
                if answer.status().is_success() {
                    break;
                }
                assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                expect_problem(answer, 503, "dependency-unavailable").await;
                refused.set(refused.get() + 1);
            }
            answered.set(answered.get() + 1);
            events.push(event);
        }
        events
    }));
    let breaking = async {
        for _ in 0..5 {
            let (before, after) = (refused.get(), answered.get() + 10);
            proxy.stop().await;
            eventually("somebody is refused", async || refused.get() > before).await;
            proxy.start();
            eventually("events are kept again", async || answered.get() >= after).await;
        }
        over.set(true);
    };
    let (events, ()) = tokio::join!(sending, breaking);
    let events: Vec<Value> = events.into_iter().flatten().collect();
    for batch in events.chunks(1000) {
        let report = post_batch(&node, batch).await;
        assert!(report["results"].as_array().unwrap().iter().all(|result| result["outcome"] == "known"), "{report}");
    }
    let job = expect(node.get("/v1/openlineage/jobs/etl/load").send().await.unwrap(), &[200]).await;
    assert_eq!(job["events"], events.len(), "each counts once, whether or not its first answer was lost");
    node.finish().await;
}
