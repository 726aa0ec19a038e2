//! A database server that is killed, restarted and paused while streams run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::{
    cluster::Cluster,
    node::{Paid, Setup, TestNode, expect, expect_problem, sample},
    patience::eventually,
    pgbouncer::PgBouncer,
    still::{at_rest, bytes_of, usage_rows},
};

const SIZE: usize = 50_000;

/// Clients that stream at a time.
const CLIENTS: usize = 2;

/// Streams that show that something goes on.
const SOME: u64 = 20;

fn setup(url: &str) -> Setup {
    // Short, so that a silent server is noticed soon.
    Setup::on_database_of(url)
        .env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", "1s")
        .env("PENSTOCK_POSTGRES__CREATE_TIMEOUT", "1s")
        .env("PENSTOCK_POSTGRES__STATEMENT_TIMEOUT", "1s")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
        .env("PENSTOCK_QUOTA__ENTRY_TTL", "10min")
}

/// Clients that stream one content again and again until they are told to stop.
struct Load<'a> {
    node: &'a TestNode,
    paid: Paid,
    bytes: Vec<u8>,
    /// Whether it may be refused: a lease that is used up needs the ledger.
    leased: bool,
    delivered: AtomicU64,
    stopped: AtomicBool,
}

impl<'a> Load<'a> {
    async fn new(node: &'a TestNode, tier: &str, seed: u64) -> Self {
        let bytes = sample(seed, SIZE);
        let paid = node.paid(&bytes, tier).await;
        Self { node, paid, bytes, leased: tier != "unlimited", delivered: 0.into(), stopped: false.into() }
    }

    async fn run(&self) {
        join_all((0..CLIENTS).map(|_| async {
            while !self.stopped.load(SeqCst) {
                let answer = self.node.stream(&self.paid).send().await.unwrap();
                if self.leased && answer.status() != 200 {
                    expect_problem(answer, 503, "dependency-unavailable").await;
                    continue;
                }
                assert_eq!(answer.status(), 200, "what is in memory goes on");
                assert_eq!(answer.bytes().await.unwrap(), self.bytes);
                self.delivered.fetch_add(1, SeqCst);
            }
        }))
        .await;
    }

    /// Waits until so many more streams have been delivered.
    async fn goes_on(&self) {
        let from = self.delivered.load(SeqCst);
        eventually("streams go on", async || self.delivered.load(SeqCst) >= from + SOME).await;
    }

    /// Every stream that was delivered is in the ledger, once.
    async fn is_charged(&self) {
        let (rows, delivered) = (usage_rows(self.node, &self.paid.receipt).await, self.delivered.load(SeqCst));
        assert_eq!((rows.len() as u64, bytes_of(&rows)), (delivered, delivered * SIZE as u64));
        assert_eq!(self.node.charged(&self.paid.receipt).await, (delivered * SIZE as u64, delivered));
    }
}

/// What `fault` does to the server happens twice while clients stream; `mend` undoes it.
async fn streams_survive(
    node: &mut TestNode,
    cluster: &mut Cluster,
    fault: fn(&mut Cluster),
    mend: impl AsyncFn(&mut Cluster),
) {
    node.tier("metered", json!({ "bytesPerHour": 1_u64 << 40, "requestsPerHour": 1_u64 << 30 })).await;
    let (free, leased) = (Load::new(node, "unlimited", 80).await, Load::new(node, "metered", 81).await);
    let unknown = [node.paid(&sample(82, 1000), "metered").await, node.paid(&sample(83, 1000), "metered").await];
    let faults = async {
        for unknown in &unknown {
            leased.goes_on().await;
            fault(cluster);
            free.goes_on().await;
            expect_problem(node.stream(unknown).send().await.unwrap(), 503, "dependency-unavailable").await;
            eventually("the node says that it is degraded", async || {
                let ready = node.get("/health/ready").send().await.unwrap();
                ready.status() == 200 && ready.text().await.unwrap().contains("degraded")
            })
            .await;
            free.goes_on().await;
            mend(cluster).await;
            eventually("the node recovers by itself", async || {
                node.stream(unknown).send().await.unwrap().status() == 200
            })
            .await;
            leased.goes_on().await;
        }
        free.stopped.store(true, SeqCst);
        leased.stopped.store(true, SeqCst);
    };
    tokio::join!(free.run(), leased.run(), faults);

    at_rest(node).await;
    free.is_charged().await;
    leased.is_charged().await;
    assert_eq!(node.get("/health/ready").send().await.unwrap().status(), 200);
    // With an audit of the whole ledger.
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_is_down_and_well_again_when_it_takes_writes() {
    let cluster = Cluster::start(&[]).await;
    let mut node = Setup::on_database_of(&cluster.url()).start().await;
    let paid = node.paid(&sample(84, 1000), "unlimited").await;
    let client = cluster.client().await;
    for (only_reads, says, sells) in [(true, "down", 503), (false, "ok", 201)] {
        client.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {only_reads}")).await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        eventually("readiness asks for a server that can write", async || {
            let ready = expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
            ready["dependencies"]["database"] == says
        })
        .await;
        let receipt = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": paid.version }));
        expect(receipt.send().await.unwrap(), &[sells]).await;
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_server_that_is_killed_and_started_again() {
    let mut cluster = Cluster::start(&[]).await;
    let mut node = setup(&cluster.url()).start().await;
    streams_survive(&mut node, &mut cluster, Cluster::kill, async |cluster| cluster.boot().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_server_that_is_killed_behind_pgbouncer() {
    let mut cluster = Cluster::start(&[]).await;
    // Migrated as an operator would, past PgBouncer.
    let mut migrate = tokio::process::Command::new(env!("CARGO_BIN_EXE_penstock"));
    let migrated = migrate.arg("migrate").env("DATABASE_URL", cluster.url()).status().await.unwrap();
    assert!(migrated.success());
    let bouncer = PgBouncer::before(&cluster.config(), "").await;
    let mut node = setup(&bouncer.url()).env("PENSTOCK_DATABASE__MIGRATE_AT_START", "false").start().await;
    streams_survive(&mut node, &mut cluster, Cluster::kill, async |cluster| cluster.boot().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_server_that_stands_still_for_a_while() {
    let mut cluster = Cluster::start(&[]).await;
    let mut node = setup(&cluster.url()).start().await;
    let pause = |cluster: &mut Cluster| cluster.pause();
    streams_survive(&mut node, &mut cluster, pause, async |cluster| cluster.resume()).await;
}
