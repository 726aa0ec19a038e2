//! Clocks that are wrong: what cannot be undone is not done on their word, and an hour is an hour on all instances.

use std::fs;

use jiff::{Timestamp, ToSpan as _};
use penstock_actors::model::WindowKind;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    cluster::Cluster,
    faketime::{ahead, by_file},
    node::{On, Paid, Setup, TestNode, expect, expect_problem, sample, text},
    patience::eventually,
    postgres::TestDatabase,
    still::{bytes_of, nothing_held, storage, usage_rows},
};

const SIZE: u64 = 100_000;

/// A receipt that is paid for and was used, beside one whose refund is a line in the log of changes.
async fn used(node: &TestNode) -> Paid {
    let paid = node.paid(&sample(80, SIZE as usize), "standard").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len() as u64, SIZE);
    let refunded = node.receipt(&paid.version, json!({ "quotaTier": "standard" })).await;
    assert_eq!(node.set_status(&refunded, "refunded").await.status(), 200);
    nothing_held(node).await;
    paid
}

/// Whether the receipt lets a stream in, which is then read to its end.
async fn streams(node: &TestNode, paid: &Paid) -> bool {
    let answer = node.stream(paid).send().await.unwrap();
    answer.status() == 200 && answer.bytes().await.unwrap().len() as u64 == SIZE
}

/// The status that the ledger has, whatever the time is.
async fn status(node: &TestNode, paid: &Paid) -> String {
    let receipt = node.get(&format!("/v1/receipts/{}", paid.receipt)).send().await.unwrap();
    text(&expect(receipt, &[200]).await, "status")
}

struct Pair {
    database: TestDatabase,
    blobs: TempDir,
}

impl Pair {
    async fn new() -> Self {
        Self { database: TestDatabase::empty().await, blobs: tempfile::tempdir().unwrap() }
    }

    fn setup(&self) -> Setup {
        Setup::on_database_of(&self.database.url())
            .env("DATA_ROOT", self.blobs.path().to_str().unwrap())
            .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
            .env("PENSTOCK_QUOTA__HEARTBEAT", "300ms")
            .env("PENSTOCK_QUOTA__ENTRY_TTL", "300ms")
            .env("PENSTOCK_QUOTA__REFUSAL_TTL", "50ms")
            .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
    }

    async fn count(&self, table: &str) -> i64 {
        let client = self.database.client().await;
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_whose_clocks_are_ahead_take_no_receipt_and_forget_nothing() {
    let pair = Pair::new().await;
    let mut right = pair.setup().start().await;
    let paid = used(&right).await;
    // Of an upload that goes on at the right instance.
    let upload = pair.blobs.path().join("tmp").join("upload");
    fs::write(&upload, b"half").unwrap();
    let changes = pair.count("change_log").await;
    assert!(changes > 0);

    for by in ["+1h", "+31d"] {
        let mut wrong = pair.setup().envs(ahead(by)).start().await;
        wrong.metric_becomes("penstock_clock_in_doubt", "", 1.0).await;
        assert!(wrong.metric("penstock_clock_skew_seconds", "").await > 3500.0);
        let ready = wrong.get("/health/ready").send().await.unwrap();
        let ready = expect(ready, &[503]).await;
        assert_eq!(ready["status"], "down", "{ready}");
        assert!(ready["clockSkewSeconds"].as_f64().unwrap() > 3500.0, "{ready}");
        let check = wrong.run(&["check"]).await;
        let told = String::from_utf8(check.stdout).unwrap();
        assert!(!check.status.success() && told.contains("clock: this machine's clock is"), "{told}");

        assert!(streams(&wrong, &paid).await, "by the database's time it is paid for");
        assert_eq!(status(&wrong, &paid).await, "confirmed");
        assert!(wrong.terminate().await.success());
    }

    assert!(streams(&right, &paid).await);
    assert!(pair.count("change_log").await >= changes, "the word of the refund is there");
    assert_eq!(pair.count("overlay_receipts WHERE status = 'expired'").await, 0);
    assert!(upload.exists(), "the upload goes on");
    nothing_held(&right).await;
    assert_eq!(bytes_of(&usage_rows(&right, &paid.receipt).await), 4 * SIZE);
    assert_eq!(right.metric("penstock_clock_in_doubt", "").await, 0.0);
    right.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_whose_clock_is_an_hour_behind_lets_no_receipt_live_on() {
    let pair = Pair::new().await;
    let mut right = pair.setup().start().await;
    let mut late = pair.setup().envs(ahead("-1h")).start().await;
    let bytes = sample(82, SIZE as usize);
    let hash = right.put(&bytes, "video/mp4").await;
    let version = right.publish(&hash, "film.mp4").await;
    // By the clock of the late instance the first has most of an hour left.
    for (minutes, is_over) in [(-10, true), (10, false)] {
        let end = (Timestamp::now() + minutes.minutes()).to_string();
        let receipt = right.receipt(&version, json!({ "quotaTier": "standard", "expiresAt": end })).await;
        let paid = Paid { hash: hash.clone(), version: version.clone(), receipt };
        for node in [&late, &right] {
            if is_over {
                expect_problem(node.stream(&paid).send().await.unwrap(), 403, "receipt-expired").await;
            } else {
                assert!(streams(node, &paid).await, "it has ten minutes left");
            }
        }
    }
    assert!(late.terminate().await.success());
    right.finish().await;
}

/// The hour of the true time.
fn hour() -> i64 {
    WindowKind::Hour.window(Timestamp::now()).start.as_second() / 3600
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_is_one_hour_on_instances_whose_clocks_are_an_hour_apart() {
    const LIMIT: u64 = 20 * SIZE;
    let pair = Pair::new().await;
    let mut right = pair.setup().start().await;
    let mut wrong = pair.setup().envs(ahead("+1h")).start().await;
    right.tier("hourly", json!({ "bytesPerHour": LIMIT })).await;
    let began = hour();
    let paid = right.paid(&sample(81, SIZE as usize), "hourly").await;

    let mut delivered = 0;
    eventually("both refuse", async || {
        let mut refused = 0;
        for node in [&wrong, &right] {
            let answer = node.stream(&paid).send().await.unwrap();
            if answer.status() == 200 {
                delivered += answer.bytes().await.unwrap().len() as u64;
            } else {
                refused += 1;
            }
        }
        refused == 2 && delivered >= LIMIT
    })
    .await;
    // The test may run from one hour into the next.
    let hours = 1 + hour().abs_diff(began);
    assert!(delivered <= LIMIT * hours, "{delivered} bytes in {hours} hours of {LIMIT}");
    assert!(wrong.terminate().await.success());
    nothing_held(&right).await;
    assert_eq!(right.charged(&paid.receipt).await.0, delivered);
    right.finish().await;
}

/// A server of one's own whose clock a test sets, and what its instances share.
struct Leaping {
    server: Cluster,
    blobs: TempDir,
}

impl Leaping {
    async fn start() -> Self {
        let mut server = Cluster::made(&[]);
        let clock = server.path("clock");
        server.set_env(by_file(&clock));
        let mut leaping = Self { server, blobs: tempfile::tempdir().unwrap() };
        leaping.set("+0");
        leaping.server.boot().await;
        leaping
    }

    /// Sets the server's clock so far ahead, at once for all of its processes.
    fn set(&self, by: &str) {
        self.server.put("clock.next", by);
        fs::rename(self.server.path("clock.next"), self.server.path("clock")).unwrap();
    }

    fn setup(&self) -> Setup {
        Setup::on_database_of(&self.server.url())
            .env("DATA_ROOT", self.blobs.path().to_str().unwrap())
            .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
            .env("PENSTOCK_QUOTA__ENTRY_TTL", "300ms")
            .env("PENSTOCK_QUOTA__REFUSAL_TTL", "50ms")
            .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
    }

    /// An instance that is given up soon after its last heartbeat.
    fn quick(&self) -> Setup {
        self.setup().env("PENSTOCK_QUOTA__HEARTBEAT", "300ms").env("PENSTOCK_QUOTA__LEASE_TTL", "3s")
    }

    async fn count(&self, from: &str) -> i64 {
        self.server.client().await.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
    }
}

/// Waits until the node has measured that its own clock is so many hours behind the database's.
async fn hears_of(node: &TestNode, hours: f64) {
    let skew = async || node.metric("penstock_clock_skew_seconds", "").await;
    eventually("the node measures the leap", async || (skew().await + hours * 3600.0).abs() < 60.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leap_of_the_databases_clock_makes_no_live_instance_look_dead_and_a_crashed_one_is_found() {
    let place = Leaping::start().await;
    // One lives by short leases, and so judges soon; the next heartbeat of the other is some seconds away.
    let mut quick = place.quick().start().await;
    let mut calm = place.setup().start().await;
    let mut dies = place.quick().start().await;
    quick.tier("small", json!({ "bytesPerMonth": 100 * SIZE })).await;
    let paid = quick.paid(&sample(82, SIZE as usize), "small").await;
    for node in [&quick, &calm, &dies] {
        assert!(streams(node, &paid).await);
    }

    place.set("+1h");
    hears_of(&quick, 1.0).await;
    // As many as it takes until it may judge again, and some more.
    let passes = async || quick.metric("penstock_db_queries_total", "statement=\"reclaim\"").await;
    let before = passes().await;
    eventually("it has looked for the dead", async || passes().await >= before + 30.0).await;
    assert_eq!(place.count("ledger_nodes WHERE fenced").await, 0);
    assert_eq!(place.count("streaming_usage WHERE outcome = 'lost_lease'").await, 0);
    // The ledger gives nothing to an instance that is late by its clock. It says so, and the instance sends a heartbeat at once.
    for node in [&quick, &calm, &dies] {
        eventually("streams go on", async || streams(node, &paid).await).await;
    }

    dies.kill().await;
    let taken = async || quick.metric("penstock_janitor_items_total", "kind=\"lease_reclaimed\"").await;
    eventually("what it held is taken back", async || taken().await >= 1.0).await;
    assert_eq!(place.count("ledger_nodes WHERE fenced").await, 1);
    eventually("streams go on", async || streams(&calm, &paid).await).await;

    place.set("+0");
    hears_of(&quick, 0.0).await;
    for node in [&quick, &calm] {
        eventually("streams go on", async || streams(node, &paid).await).await;
    }
    assert_eq!(place.count("ledger_nodes WHERE fenced").await, 1);
    calm.finish().await;
    quick.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_that_a_leap_has_opened_early_is_used_once() {
    const LIMIT: u64 = 4 * SIZE;
    let place = Leaping::start().await;
    let mut node = place.quick().start().await;
    node.tier("hourly", json!({ "bytesPerHour": LIMIT })).await;
    let paid = node.paid(&sample(83, SIZE as usize), "hourly").await;
    for (by, hours) in [("+0", 0.0), ("+1h", 1.0), ("+0", 0.0), ("+1h", 1.0)] {
        place.set(by);
        hears_of(&node, hours).await;
        eventually("the hour is used up", async || {
            let answer = node.stream(&paid).send().await.unwrap();
            let status = answer.status();
            answer.bytes().await.unwrap();
            status == 429
        })
        .await;
    }
    nothing_held(&node).await;
    let hours = "
        SELECT count(*), max(bytes_used)::bigint, sum(bytes_used)::bigint FROM quota_usage_windows WHERE window_type = 'hour'";
    let row = place.server.client().await.query_one(hours, &[]).await.unwrap();
    let (hours, most, all): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    // The test may run from one hour into the next.
    assert!((2..=3).contains(&hours), "{hours} hours were opened");
    assert!(u64::try_from(most).unwrap() <= LIMIT, "{most} bytes in an hour of {LIMIT}");
    assert_eq!(bytes_of(&usage_rows(&node, &paid.receipt).await), u64::try_from(all).unwrap());
    place.set("+0");
    hears_of(&node, 0.0).await;
    node.finish().await;
}

/// Lines that the log of changes has. The node must not run.
fn changes(node: &TestNode) -> i64 {
    let file = node.data_dir().join("penstock.sqlite3");
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.query_row("SELECT count(*) FROM change_log", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_sqlite_that_starts_years_ahead_removes_nothing_before_it_is_confirmed() {
    let mut node = Setup::new(On::Sqlite)
        .env("PENSTOCK_JANITOR__INTERVAL", "100ms")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
        .start()
        .await;
    let paid = used(&node).await;
    assert!(node.terminate().await.success());
    let noted = changes(&node);
    assert!(noted > 0);

    set_clock(&mut node, Some("+800d"));
    node.boot().await;
    node.metric_becomes("penstock_clock_in_doubt", "", 1.0).await;
    let check = node.run(&["check"]).await;
    let told = String::from_utf8(check.stdout).unwrap();
    assert!(!check.status.success() && told.contains("later than can be proven"), "{told}");
    // A file is as old as the file system says, whatever the node's clock shows.
    fs::write(storage(&node).join("tmp").join("upload"), b"half").unwrap();
    let swept = node.run(&["sweep", "--dry-run"]).await;
    let swept = String::from_utf8(swept.stdout).unwrap();
    assert!(swept.starts_with("0 temporary files"), "{swept}");
    fs::remove_file(storage(&node).join("tmp").join("upload")).expect("it was not swept");
    assert!(node.terminate().await.success());
    assert!(changes(&node) >= noted);

    set_clock(&mut node, None);
    node.boot().await;
    assert!(streams(&node, &paid).await, "it was not taken");
    nothing_held(&node).await;
    assert_eq!(bytes_of(&usage_rows(&node, &paid.receipt).await), 2 * SIZE);
    assert!(node.terminate().await.success());

    // An operator takes the wrong time for right. What that expires comes back with the right time.
    set_clock(&mut node, Some("+31d"));
    node.boot().await;
    node.metric_becomes("penstock_clock_in_doubt", "", 1.0).await;
    let confirmed = node.run(&["confirm-clock"]).await;
    assert!(confirmed.status.success(), "{}", String::from_utf8_lossy(&confirmed.stderr));
    node.metric_becomes("penstock_clock_in_doubt", "", 0.0).await;
    node.metric_becomes("penstock_janitor_items_total", "receipt_expired", 1.0).await;
    assert!(node.terminate().await.success());

    set_clock(&mut node, None);
    node.boot().await;
    node.metric_becomes("penstock_janitor_items_total", "receipt_restored", 1.0).await;
    assert!(streams(&node, &paid).await, "it is what it was");
    nothing_held(&node).await;
    node.finish().await;
}

/// The wall clock of the node's next start.
fn set_clock(node: &mut TestNode, by: Option<&str>) {
    // Nothing is loaded under this name.
    let right = [("LD_PRELOAD", String::new()), ("FAKETIME", String::new())];
    match by {
        Some(by) => ahead(by).iter().for_each(|(name, value)| node.set_env(name, value)),
        None => right.iter().for_each(|(name, value)| node.set_env(name, value)),
    }
}

/// The walk over all content, which one instance at a time makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_with_a_clock_an_hour_ahead_takes_over_a_task_only_after_its_holder_dies() {
    let pair = Pair::new().await;
    let setup = || pair.setup().env("PENSTOCK_VERIFICATION__INTERVAL", "100ms");
    let mut right = setup().start().await;
    let client = pair.database.client().await;
    let holder = async || {
        let sql = "SELECT holder, token FROM task_leases WHERE task = 'walk' AND held_until > clock_timestamp()";
        client.query_opt(sql, &[]).await.unwrap().map(|row| (row.get::<_, uuid::Uuid>(0), row.get::<_, i64>(1)))
    };
    eventually("the right instance has the task", async || holder().await.is_some()).await;
    let first = holder().await;
    let mut wrong = setup().envs(ahead("+1h")).start().await;
    let asked = async || wrong.metric("penstock_db_queries_total", "acquire_task").await;
    let before = asked().await;
    eventually("the wrong one has asked several times", async || asked().await >= before + 10.0).await;
    assert_eq!(holder().await, first);

    right.kill().await;
    assert_eq!(holder().await, first, "its lease has not run out");
    // The rest of its minute is cut short.
    let sql = "UPDATE task_leases SET held_until = clock_timestamp() WHERE task = 'walk'";
    client.batch_execute(sql).await.unwrap();
    eventually("the other one goes on", async || holder().await.is_some()).await;
    assert!(holder().await.unwrap().1 > first.unwrap().1);
    assert!(wrong.terminate().await.success());
}
