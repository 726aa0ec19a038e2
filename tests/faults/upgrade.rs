//! An upgrade and the way back: instances of the release before the last change of the schema and of this one, side by side on one
//! database and one Redis. Each byte is charged once, whichever version sent it.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use serde_json::json;

use crate::{
    node::{Paid, Setup, TestNode, expect, expect_problem, hex_sha256, sample, text},
    patience::eventually,
    postgres::TestDatabase,
    redis_server::RedisServer,
    still::{bytes_of, usage_rows},
    wire::Wire,
};

/// The binary of the earlier version, which `./test --all` builds.
const EARLIER: &str = "PENSTOCK_TEST_EARLIER";

const SIZE: usize = 300_000;

/// Clients of one content, on both versions.
struct Load<'a> {
    paid: &'a Paid,
    bytes: &'a [u8],
    served: &'a AtomicU64,
    stopped: AtomicBool,
}

impl<'a> Load<'a> {
    fn of(paid: &'a Paid, bytes: &'a [u8], served: &'a AtomicU64) -> Self {
        Self { paid, bytes, served, stopped: AtomicBool::new(false) }
    }

    async fn run(&self, node: &TestNode) {
        while !self.stopped.load(Relaxed) {
            let answer = node.stream_apart(self.paid).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.unwrap() == self.bytes);
            self.served.fetch_add(1, Relaxed);
        }
    }

    /// Serves some more, and ends.
    async fn goes_on_and_ends(&self) {
        let from = self.served.load(Relaxed);
        eventually("streams go on", async || self.served.load(Relaxed) >= from + 20).await;
        self.stopped.store(true, Relaxed);
    }
}

/// Content that came in at one instance is sold and sent by another.
async fn is_sold_and_sent(node: &TestNode, bytes: &[u8]) {
    let version = node.publish(&hex_sha256(bytes), "film").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
    let paid = Paid { hash: hex_sha256(bytes), version, receipt };
    assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test --all builds the earlier version first"]
async fn an_earlier_version_serves_beside_this_one_and_goes_on_alone_when_this_one_is_taken_out() {
    let earlier =
        PathBuf::from(std::env::var(EARLIER).unwrap_or_else(|_| panic!("{EARLIER} is not set: run ./test --all")));
    let (database, redis) = (TestDatabase::empty().await, RedisServer::start());
    let blobs = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::on_database_of(&database.url())
            .env("DATA_ROOT", blobs.path().to_str().unwrap())
            .env("REDIS_URL", redis.url())
            .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "2s")
            .env("PENSTOCK_QUOTA__HEARTBEAT", "500ms")
    };
    let mut old = setup().binary(earlier).start().await;
    old.tier(
        "metered",
        json!({ "bytesPerMonth": 1_u64 << 40, "requestsPerMonth": 1_u64 << 30, "maxConcurrentStreams": 50 }),
    )
    .await;
    let bytes = sample(230, SIZE);
    let paid = old.paid(&bytes, "metered").await;
    let served = AtomicU64::new(0);
    const VERSION: &str = "SELECT max(version) FROM refinery_schema_history";
    let client = database.client().await;
    let version = async || client.query_one(VERSION, &[]).await.unwrap().get::<_, i32>(0);
    let before = version().await;

    // This version migrates and starts while the other one serves.
    let load = Load::of(&paid, &bytes, &served);
    let starting = async {
        let node = setup().start().await;
        load.goes_on_and_ends().await;
        node
    };
    let ((), mut new) = tokio::join!(load.run(&old), starting);
    assert!(version().await > before, "this version has migrated");

    // Both serve, and each sells and sends what came in at the other.
    let load = Load::of(&paid, &bytes, &served);
    tokio::join!(load.run(&old), load.run(&new), load.goes_on_and_ends());
    let (of_old, of_new) = (sample(231, SIZE), sample(232, SIZE));
    old.put(&of_old, "video/mp4").await;
    new.put(&of_new, "video/mp4").await;
    is_sold_and_sent(&old, &of_new).await;
    is_sold_and_sent(&new, &of_old).await;

    // A refund at one stops a stream at the other, either way.
    for (at, other, seed) in [(&old, &new, 233), (&new, &old, 234)] {
        let large = at.paid(&sample(seed, 40 << 20), "premium").await;
        let mut wire = Wire::streaming(at, &large).await;
        let mut got = wire.read_on(100_000).await.len();
        assert_eq!(other.set_status(&large.receipt, "refunded").await.status(), 200);
        got += wire.read_on(64 << 20).await.len();
        assert!(got < 40 << 20, "it was stopped");
        expect_problem(at.stream(&large).send().await.unwrap(), 403, "receipt-refunded").await;
        eventually("its usage is settled", async || !usage_rows(at, &large.receipt).await.is_empty()).await;
        assert!(bytes_of(&usage_rows(at, &large.receipt).await) >= got as u64);
    }

    // An instance of the earlier version that restarts during the roll-out.
    let load = Load::of(&paid, &bytes, &served);
    let restarting = async {
        assert!(old.terminate().await.success());
        old.boot().await;
        load.goes_on_and_ends().await;
    };
    tokio::join!(load.run(&new), restarting);

    // The way back: this version is taken out, and the earlier one goes on alone, also after a start.
    let load = Load::of(&paid, &bytes, &served);
    let leaving = async {
        assert!(new.terminate().await.success());
        load.goes_on_and_ends().await;
    };
    tokio::join!(load.run(&old), leaving);
    assert!(old.terminate().await.success());
    old.boot().await;
    let load = Load::of(&paid, &bytes, &served);
    tokio::join!(load.run(&old), load.goes_on_and_ends());
    is_sold_and_sent(&old, &sample(232, SIZE)).await;
    let count = served.load(Relaxed);
    assert_eq!(old.charged(&paid.receipt).await, (count * SIZE as u64, count), "each byte once");
    old.finish().await;

    // And forward again.
    new.boot().await;
    assert_eq!(new.charged(&paid.receipt).await, (count * SIZE as u64, count));
    let document = expect(new.get("/health/ready").send().await.unwrap(), &[200]).await;
    assert_eq!(text(&document, "status"), "ok");
    new.finish().await;
}
