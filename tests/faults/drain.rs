//! SIGTERM in every phase of a node: while it starts, with and without work, and with each dependency away. The process ends by its
//! deadline, and what it could not settle is settled from the usage spool by the next one.

use std::{
    process::{ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use rusqlite::Connection;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio_postgres::Client as Database;

use crate::{
    cluster::free_port,
    database::{server, url_by},
    failing_s3::node_behind_a_proxy,
    node::{ADMIN_KEY, On, Paid, Setup, TestNode, client, hex_sha256, sample},
    patience::{PATIENCE, eventually},
    postgres::TestDatabase,
    proxy::{Fault, Proxy},
    redis_server::RedisServer,
    s3_proxy,
    still::{bytes_of, temporary_files, usage_rows, visible_blobs},
    wire::Wire,
};

/// The deadline of the nodes here: a second for streams, two for settlement.
const TIMES: [(&str, &str); 2] = [("PENSTOCK_SERVER__DRAIN_GRACE", "1s"), ("PENSTOCK_SERVER__DRAIN_SETTLE", "2s")];

/// How much later than its deadline a busy machine may let a process end. Each wait that is not bounded by the deadline takes far
/// longer here.
const BUSY: Duration = Duration::from_secs(15);

/// For waits of the node on its dependencies.
const FOR_EVER: &str = "10min";

/// A setup with these times.
fn timed(setup: Setup) -> Setup {
    TIMES.iter().fold(setup, |setup, (name, value)| setup.env(name, *value))
}

/// The end of a node that was asked to stop, which comes by the deadline.
async fn ends_in_time(node: &mut TestNode) -> ExitStatus {
    let asked = Instant::now();
    let status = node.terminate().await;
    assert!(asked.elapsed() < Duration::from_secs(3) + BUSY, "it took {:?}", asked.elapsed());
    status
}

/// A node that has a log of its own.
async fn boot_with_log(node: &mut TestNode) -> impl Fn() -> String + use<> {
    let file = node.folder.path().join("log");
    node.boot_logging_to(std::fs::File::create(&file).unwrap()).await;
    move || std::fs::read_to_string(&file).unwrap()
}

/// A process that starts.
struct Starting {
    process: Child,
    place: u16,
    client: Client,
}

impl Starting {
    /// A start of this node, which does not run.
    async fn of(node: &TestNode) -> Self {
        Self::by(node.command()).await
    }

    async fn by(mut command: Command) -> Self {
        let place = free_port();
        command.arg("serve").env("PENSTOCK_BIND", format!("127.0.0.1:{place}")).kill_on_drop(true);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let starting = Self { process, place, client: client() };
        eventually("it lives", async || starting.status("live").await == Some(200)).await;
        starting
    }

    async fn status(&self, of: &str) -> Option<u16> {
        let answer = self.client.get(format!("http://127.0.0.1:{}/health/{of}", self.place)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// What the process said before it ended after SIGTERM.
    async fn asked_to_stop(self, signals: usize) -> String {
        assert_eq!(self.status("ready").await, Some(503), "it is not ready yet");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id().unwrap()).unwrap());
        for _ in 0..signals {
            // After the first one it may be gone.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        }
        let asked = Instant::now();
        let ended = tokio::time::timeout(PATIENCE, self.process.wait_with_output()).await.expect("it stops").unwrap();
        assert!(asked.elapsed() < BUSY, "it took {:?}", asked.elapsed());
        let Output { status, stderr, .. } = ended;
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    }
}

/// Waits until a session on this database waits for a lock.
async fn a_session_waits(database: &Database) {
    const WAITING: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a session waits for a lock", async || {
        database.query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
}

/// Statements wait as long as they must.
fn patient(node: &mut TestNode) {
    node.set_env("PENSTOCK_POSTGRES__STATEMENT_TIMEOUT", FOR_EVER);
    node.set_env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", FOR_EVER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_its_turn_to_migrate_ends_when_asked() {
    let mut node = TestNode::start(On::Postgres).await;
    assert!(node.terminate().await.success());
    let other = node.database.as_ref().unwrap().client().await;
    // The lock that an instance which migrates holds; see the adapter.
    other.batch_execute("SELECT pg_advisory_lock(x'70656e73746f636b'::bigint)").await.unwrap();
    let starting = Starting::of(&node).await;
    a_session_waits(&node.database.as_ref().unwrap().client().await).await;
    let said = starting.asked_to_stop(2).await;
    assert!(said.contains("stopped by SIGTERM while it waited for its database or migrated the schema"), "{said}");
    drop(other);
    node.boot().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_in_the_middle_of_a_migration_ends_when_asked_and_the_next_one_migrates() {
    let (database, folder) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    let other = database.client().await;
    // The migration that makes this table waits until it is known whether this one stays.
    other.batch_execute("BEGIN; CREATE TABLE overlay_receipts (a int)").await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.env("DATABASE_URL", database.url()).env("PENSTOCK_DATA_DIR", folder.path());
    let starting = Starting::by(command).await;
    a_session_waits(&database.client().await).await;
    let said = starting.asked_to_stop(1).await;
    assert!(said.contains("while it waited for its database or migrated the schema"), "{said}");
    other.batch_execute("ROLLBACK").await.unwrap();
    let mut node = Setup::on_database_of(&database.url()).start().await;
    let paid = node.paid(&sample(1, 1000), "premium").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 1000);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_the_lock_of_its_file_ends_when_asked() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SQLITE__BUSY_TIMEOUT", FOR_EVER).start().await;
    assert!(node.terminate().await.success());
    let other = Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let said = Starting::of(&node).await.asked_to_stop(1).await;
    assert!(said.contains("while it waited for its database or migrated the schema"), "{said}");
    drop(other);
    node.boot().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_settles_what_its_last_process_left_ends_when_asked_and_the_next_one_settles_it() {
    let mut node = Setup::new(On::Postgres).env("PENSTOCK_USAGE__BATCH_AGE", FOR_EVER).start().await;
    node.tier("metered", json!({ "bytesPerHour": 1_u64 << 40 })).await;
    let paid = node.paid(&sample(2, 100_000), "metered").await;
    for _ in 0..3 {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 100_000);
    }
    node.kill().await;
    let other = node.database.as_ref().unwrap().client().await;
    other.batch_execute("BEGIN; LOCK TABLE streaming_usage IN SHARE MODE").await.unwrap();
    patient(&mut node);
    let starting = Starting::of(&node).await;
    a_session_waits(&node.database.as_ref().unwrap().client().await).await;
    let said = starting.asked_to_stop(1).await;
    assert!(said.contains("while it settled what its last process left"), "{said}");
    other.batch_execute("ROLLBACK").await.unwrap();
    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (300_000, 3), "each stream is charged once");
    assert_eq!(node.quota(&paid.receipt).await["windows"]["hour"]["bytesReserved"], 0);
    node.finish().await;
}

/// An idle node, whose clients keep their connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_hold_up_a_stop() {
    let mut node = Setup::new(On::Sqlite)
        .env("PENSTOCK_SERVER__DRAIN_GRACE", FOR_EVER)
        .env("PENSTOCK_SERVER__KEEP_ALIVE", FOR_EVER)
        .start()
        .await;
    let paid = node.paid(&sample(3, 1000), "unlimited").await;
    let mut used = Wire::asking(&node, &paid).await;
    let head = used.head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(used.read_on(1000).await.len(), 1000);
    assert!(ends_in_time(&mut node).await.success());
    assert!(used.read_on(1).await.is_empty(), "the node closed it");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_ends_within_the_grace_is_stored_and_no_other_begins() {
    let mut node = TestNode::start(On::Sqlite).await;
    let bytes = sample(4, 3_000_000);
    let mut wire = Wire::uploading(&node, bytes.len() as u64).await;
    wire.send(&bytes[..2_000_000]).await;
    eventually("the upload is under way", async || !temporary_files(&node).is_empty()).await;
    node.signal(libc::SIGTERM);
    let another =
        async || node.admin(Method::POST, "/v1/content").header("connection", "close").body("later").send().await;
    eventually("no other begins", async || !another().await.is_ok_and(|answer| answer.status().is_success())).await;
    wire.send(&bytes[2_000_000..]).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    drop(wire);
    assert!(node.ended().await.success());
    node.boot().await;
    let version = node.publish(&hex_sha256(&bytes), "whole").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
    let paid = Paid { hash: hex_sha256(&bytes), version, receipt };
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_outlast_the_grace_are_cut_and_a_resumable_one_goes_on_afterwards() {
    const MIB: usize = 1 << 20;
    let mut node = timed(Setup::new(On::Sqlite)).start().await;
    let (plain, resumable) = (sample(5, 3 * MIB), sample(6, 20 * MIB));
    let mut wire = Wire::uploading(&node, plain.len() as u64).await;
    wire.send(&plain[..2 * MIB]).await;
    let tus = |node: &TestNode, method: Method, place: &str| node.admin(method, place).header("tus-resumable", "1.0.0");
    let begun = tus(&node, Method::POST, "/v1/uploads").header("upload-length", resumable.len()).send().await.unwrap();
    assert_eq!(begun.status(), 201);
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    let mut appending = Wire::to(&node).await;
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\n\
         content-type: application/offset+octet-stream\r\ncontent-length: {}\r\n\r\n",
        ADMIN_KEY,
        resumable.len()
    );
    appending.send(head.as_bytes()).await;
    appending.send(&resumable[..19 * MIB]).await;
    let offset = async |node: &TestNode| {
        let answer = tus(node, Method::HEAD, &place).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.headers()["upload-offset"].to_str().unwrap().parse::<usize>().unwrap()
    };
    eventually("two parts count", async || offset(&node).await >= 16 * MIB).await;

    assert!(ends_in_time(&mut node).await.success(), "nothing was promised");
    assert!(wire.read_on(1).await.is_empty(), "no answer");
    assert!(appending.read_on(1).await.is_empty(), "no answer");
    node.boot().await;
    assert_eq!(visible_blobs(&node), 0);
    let from = offset(&node).await;
    assert!((16 * MIB..=19 * MIB).contains(&from), "{from}");
    let rest = tus(&node, Method::PATCH, &place)
        .header("upload-offset", from)
        .header("content-type", "application/offset+octet-stream")
        .body(resumable[from..].to_vec());
    let answer = rest.send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["x-content-hash"], hex_sha256(&resumable));
    node.put(&plain, "application/octet-stream").await;
    node.finish().await;
}

/// A database that accepts connections and answers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_a_node_stops_in_time_and_the_next_start_settles_the_rest() {
    let database = TestDatabase::empty().await;
    let proxy = Proxy::started(server(&database)).await;
    let mut node = timed(Setup::on_database_of(&url_by(&database, proxy.address()))).start().await;
    assert!(node.terminate().await.success());
    patient(&mut node);
    let log = boot_with_log(&mut node).await;
    node.tier("slow", json!({ "maxBandwidthMbps": 8, "bytesPerHour": 1_u64 << 40 })).await;
    let paid = node.paid(&sample(7, 100_000), "premium").await;
    let (large, bytes) = (sample(8, 40 << 20), 100_000);
    let running = node.paid(&large, "slow").await;
    let mut wire = Wire::streaming(&node, &running).await;
    let mut got = wire.read_on(100_000).await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), bytes);
    proxy.set(Fault::Hole);
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), bytes, "the lease suffices");

    let (status, rest) = tokio::join!(ends_in_time(&mut node), wire.read_on(large.len()));
    got.extend(rest);
    assert!(got == large[..got.len()], "what came is what was stored");
    let said = log();
    assert_eq!(status.code(), Some(1), "not all is in the ledger: {said}");
    assert!(said.contains("are in the usage spool"), "{said}");

    proxy.heal();
    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (2 * bytes as u64, 2));
    let rows = usage_rows(&node, &running.receipt).await;
    assert_eq!(rows.len(), 1);
    let charged = bytes_of(&rows);
    assert!((got.len() as u64..large.len() as u64 / 2).contains(&charged), "{charged} of {}", got.len());
    for receipt in [&paid.receipt, &running.receipt] {
        assert_eq!(node.quota(receipt).await["windows"]["hour"]["bytesReserved"], 0, "no lease is left");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_node_that_settles() {
    let database = TestDatabase::empty().await;
    let proxy = Proxy::started(server(&database)).await;
    let setup =
        Setup::on_database_of(&url_by(&database, proxy.address())).env("PENSTOCK_SERVER__DRAIN_SETTLE", FOR_EVER);
    let mut node = setup.env("PENSTOCK_USAGE__BATCH_AGE", FOR_EVER).start().await;
    let log = {
        assert!(node.terminate().await.success());
        patient(&mut node);
        boot_with_log(&mut node).await
    };
    let paid = node.paid(&sample(9, 100_000), "premium").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 100_000);
    proxy.set(Fault::Hole);
    node.signal(libc::SIGTERM);
    eventually("no connection is left", async || log().contains("the node hands its leases back")).await;
    let asked = Instant::now();
    assert_eq!(node.terminate().await.code(), Some(1));
    assert!(asked.elapsed() < BUSY, "it took {:?}", asked.elapsed());
    proxy.heal();
    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (100_000, 1));
    node.finish().await;
}

/// The thread that holds the file hangs, as on a disk that does not answer: no wait that is given up ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_disk_hangs_ends_by_its_deadline() {
    let setup = timed(Setup::new(On::Sqlite)).env("PENSTOCK_SQLITE__BUSY_TIMEOUT", FOR_EVER);
    let mut node = setup.env("PENSTOCK_USAGE__BATCH_AGE", FOR_EVER).start().await;
    let paid = node.paid(&sample(10, 100_000), "premium").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 100_000);
    let other = Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(ends_in_time(&mut node).await.code(), Some(1));
    drop(other);
    node.boot().await;
    assert_eq!(node.charged(&paid.receipt).await, (100_000, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_node_stops_in_time_and_settles_everything() {
    let redis = RedisServer::start();
    let proxy = Proxy::started(([127, 0, 0, 1], redis.port()).into()).await;
    let mut node = timed(Setup::new(On::Sqlite))
        .env("REDIS_URL", format!("redis://{}/", proxy.address()))
        .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", FOR_EVER)
        .env("PENSTOCK_REDIS__CONNECT_TIMEOUT", FOR_EVER)
        .start()
        .await;
    node.tier("some", json!({ "maxConcurrentStreams": 10, "bytesPerHour": 1_u64 << 40 })).await;
    let large = sample(11, 40 << 20);
    let paid = node.paid(&large, "some").await;
    let mut wire = Wire::streaming(&node, &paid).await;
    let got = wire.read_on(100_000).await;
    proxy.set(Fault::Hole);
    assert!(ends_in_time(&mut node).await.success(), "usage does not need Redis");
    drop(wire);
    proxy.heal();
    node.boot().await;
    let (charged, requests) = node.charged(&paid.receipt).await;
    assert!(requests == 1 && charged >= got.len() as u64, "{charged} by {requests}");
    assert_eq!(node.quota(&paid.receipt).await["windows"]["hour"]["bytesReserved"], 0, "no lease is left");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_s3_a_node_stops_in_time_and_settles_everything() {
    let more = [("PENSTOCK_S3__IDLE_TIMEOUT", "10s"), ("PENSTOCK_S3__RETRY_TIME", "20s")];
    let (buckets, proxy, mut node) = node_behind_a_proxy(TIMES.into_iter().chain(more)).await;
    let large = sample(12, 12 << 20);
    let paid = node.paid(&large, "premium").await;
    let mut wire = Wire::streaming(&node, &paid).await;
    let got = wire.read_on(100_000).await;
    proxy.break_all(s3_proxy::Fault::Hang);
    let mut upload = Wire::uploading(&node, large.len() as u64).await;
    upload.send(&large[..8 << 20]).await;
    assert!(ends_in_time(&mut node).await.success(), "usage does not need S3");
    drop((wire, upload));
    proxy.heal();
    node.boot().await;
    let (charged, requests) = node.charged(&paid.receipt).await;
    assert!(requests == 1 && charged >= got.len() as u64, "{charged} by {requests}");
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), large);
    assert_eq!(buckets.all_keys("blobs").await.len(), 1);
    node.finish().await;
}
