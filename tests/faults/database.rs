//! A database that is not there, goes away, comes back, and forgets to answer.

use std::{net::SocketAddr, process::Stdio};

use futures::future::join_all;
use penstock_actors::ids::VersionId;
use reqwest::Method;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_postgres::config::Host;

use crate::{
    cluster::free_port,
    node::{ADMIN_KEY, Setup, client, expect, expect_problem, sample, text},
    patience::{PATIENCE, eventually},
    postgres::TestDatabase,
    proxy::{Fault, Proxy},
    still::{at_rest, bytes_of, usage_rows},
    wire::Wire,
};

pub(crate) fn server(database: &TestDatabase) -> SocketAddr {
    let config = database.config();
    let (Some(Host::Tcp(host)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        panic!("the test server listens on a port");
    };
    SocketAddr::new(host.parse().expect("an address"), *port)
}

/// The URL of a database by another way to its server.
pub(crate) fn url_by(database: &TestDatabase, way: SocketAddr) -> String {
    database.url().replacen(&server(database).to_string(), &way.to_string(), 1)
}

fn setup(database: &TestDatabase, way: SocketAddr) -> Setup {
    // Short, so that a silent database is noticed soon.
    Setup::on_database_of(&url_by(database, way))
        .env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", "1s")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_at_start_is_tried_for_a_while_and_then_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_penstock"))
        .arg("serve")
        .env("PENSTOCK_DATA_DIR", folder.path())
        .env("PENSTOCK_BIND", "127.0.0.1:0")
        // Nothing listens on the port for multiplexers.
        .env("DATABASE_URL", "postgres://nobody:secret-word@127.0.0.1:1/nothing")
        .env("PENSTOCK_DATABASE__START_TIMEOUT", "1500ms")
        .env_remove("PENSTOCK_TEST_POSTGRES")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.matches("PostgreSQL is not ready yet").count() >= 2, "it tries again: {said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("PostgreSQL was not ready within 1s 500ms (database.start_timeout)"), "{said}");
    assert!(!said.contains("secret-word"), "{said}");
    assert!(output.stdout.is_empty(), "it never said that it listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_comes_late_is_waited_for() {
    let database = TestDatabase::empty().await;
    let mut proxy = Proxy::started(server(&database)).await;
    proxy.stop().await;
    let address = proxy.address();
    let closed = TcpListener::bind(address).await.unwrap();
    let later = async {
        // The node has tried and was turned away: now the database comes.
        drop(closed.accept().await.unwrap());
        drop(closed);
        proxy.start();
    };
    let (mut node, ()) = tokio::join!(setup(&database, address).start(), later);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_its_database_says_that_it_lives_and_what_it_waits_for() {
    let database = TestDatabase::empty().await;
    let mut proxy = Proxy::started(server(&database)).await;
    proxy.stop().await;
    let place = free_port();
    let setup = setup(&database, proxy.address()).env("PENSTOCK_BIND", format!("127.0.0.1:{place}"));
    let starting = tokio::spawn(setup.start());
    let client = client();
    let ask = async |path: &str| client.get(format!("http://127.0.0.1:{place}{path}")).send().await;
    eventually("it lives", async || ask("/health/live").await.is_ok_and(|answer| answer.status() == 200)).await;
    let ready = expect(ask("/health/ready").await.unwrap(), &[503]).await;
    assert_eq!(ready["status"], "starting");
    assert!(ready["reason"].as_str().unwrap().contains("the database does not answer yet"), "{ready}");
    let refused = expect_problem(ask("/v1/catalog").await.unwrap(), 503, "dependency-unavailable").await;
    assert!(refused["detail"].as_str().unwrap().starts_with("the node starts"), "{refused}");

    proxy.start();
    let mut node = starting.await.unwrap();
    assert_eq!(expect(node.get("/health/ready").send().await.unwrap(), &[200]).await["status"], "ok");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_its_database_stops_when_it_is_asked_to() {
    let (folder, place) = (tempfile::tempdir().unwrap(), free_port());
    let waiting = tokio::process::Command::new(env!("CARGO_BIN_EXE_penstock"))
        .arg("serve")
        .env("PENSTOCK_DATA_DIR", folder.path())
        .env("PENSTOCK_BIND", format!("127.0.0.1:{place}"))
        // Nothing listens on the port for multiplexers.
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
        .env("PENSTOCK_DATABASE__START_TIMEOUT", "1h")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = client();
    let live = async || client.get(format!("http://127.0.0.1:{place}/health/live")).send().await.is_ok();
    eventually("it waits", live).await;
    let pid = i32::try_from(waiting.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, waiting.wait_with_output()).await.expect("it stops").unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("stopped by SIGTERM while it waited for its database"), "{said}");
    assert_eq!(ended.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_a_node_shows_its_figures_and_sessions_at_the_console_wait() {
    let database = TestDatabase::empty().await;
    let mut proxy = Proxy::started(server(&database)).await;
    let mut node = setup(&database, proxy.address()).start().await;
    let signed_in = node.client.post(node.url("/dashboard/sign-in")).bearer_auth(ADMIN_KEY).send().await.unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let csrf = text(&expect(signed_in, &[200]).await["session"], "csrfToken");
    let call = |path: &str| node.get(path).header("cookie", &cookie).header("x-csrf-token", &csrf);
    let session = async || expect(call("/dashboard/session").send().await.unwrap(), &[200]).await;
    let mut figures = call("/dashboard/events").header("via", "1.1 proxy").send().await.unwrap();
    assert_eq!(figures.status(), 200);

    proxy.stop().await;
    let refused = || call("/v1/streaming/policies").send();
    eventually("the session cannot be read", async || refused().await.unwrap().status() == 503).await;
    expect_problem(refused().await.unwrap(), 503, "dependency-unavailable").await;
    assert_eq!(session().await, json!({ "session": null, "figures": true }), "on the machine of the node");
    assert_eq!(call("/dashboard/events").send().await.unwrap().status(), 200);
    // More snapshots than after which the right is looked at again.
    for _ in 0..5 {
        assert!(figures.chunk().await.unwrap().is_some(), "what was open goes on");
    }

    proxy.start();
    eventually("the session is open again", async || refused().await.unwrap().status() == 200).await;
    assert_eq!(session().await["session"]["csrfToken"], json!(csrf));
    drop(figures);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_stops_nothing_that_is_in_memory_and_loses_nothing() {
    let database = TestDatabase::empty().await;
    let mut proxy = Proxy::started(server(&database)).await;
    let mut node = setup(&database, proxy.address()).start().await;
    node.tier("metered", json!({ "bytesPerHour": 1_u64 << 40, "requestsPerHour": 1_u64 << 30 })).await;
    let (small, large) = (sample(40, 200_000), sample(41, 24 << 20));
    let known = node.paid(&small, "metered").await;
    let running = node.paid(&large, "metered").await;
    let unknown = node.paid(&sample(42, 1000), "metered").await;
    assert_eq!(node.stream(&known).send().await.unwrap().bytes().await.unwrap(), small);
    let mut wire = Wire::streaming(&node, &running).await;
    let mut got = wire.read_on(100_000).await;

    node.metric_becomes("penstock_usage_settled_total", "", 1.0).await;

    proxy.stop().await;
    expect_problem(node.stream(&unknown).send().await.unwrap(), 503, "dependency-unavailable").await;
    let asset = json!({ "name": "new", "contentHash": known.hash });
    let publish = node.admin(Method::POST, "/v1/assets").json(&asset).send().await.unwrap();
    expect_problem(publish, 503, "dependency-unavailable").await;
    let upload = node.admin(Method::POST, "/v1/content").body(sample(43, 2_000_000)).send().await.unwrap();
    expect_problem(upload, 503, "dependency-unavailable").await;
    for _ in 0..5 {
        assert_eq!(node.stream(&known).send().await.unwrap().bytes().await.unwrap(), small);
    }
    got.extend(wire.read_on(large.len() - got.len()).await);
    assert!(got == large, "a stream that ran goes on to its end");
    drop(wire);
    let waiting = async || node.metric("penstock_admission_in_use", "usage").await;
    eventually("usage waits", async || waiting().await == 6.0).await;
    eventually("the ledger is tried again", async || node.metric("penstock_usage_retries_total", "").await > 0.0).await;
    let ready = node.get("/health/ready").send().await.unwrap();
    assert!(ready.text().await.unwrap().contains("degraded"));

    proxy.start();
    at_rest(&node).await;
    assert_eq!(node.charged(&known.receipt).await, (6 * 200_000, 6));
    assert_eq!(node.charged(&running.receipt).await, (large.len() as u64, 1));
    assert_eq!(node.charged(&unknown.receipt).await, (0, 0));
    assert_eq!(node.stream(&unknown).send().await.unwrap().status(), 200);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_database_refuses_requests_at_once_and_stops_no_stream() {
    let database = TestDatabase::empty().await;
    let mut node = Setup::on_database_of(&database.url())
        .env("PG_POOL_MIN", "1")
        .env("PG_POOL_MAX", "5")
        .env("PENSTOCK_POSTGRES__MAX_WAITING", "2")
        .env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", "60s")
        .env("PENSTOCK_POSTGRES__STATEMENT_TIMEOUT", "60s")
        .start()
        .await;
    let calls = "server=\"primary\",state=\"waiting\"";
    node.metric_becomes("penstock_db_pool_connections", calls, 0.0).await;
    let bytes = sample(45, 10_000);
    let paid = node.paid(&bytes, "unlimited").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);

    let locker = database.client().await;
    locker.batch_execute("BEGIN; LOCK TABLE assets IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let ask = || {
        // Each of them is one that nobody has asked for.
        let asset = node.get(&format!("/v1/assets/{}", VersionId::next()));
        tokio::spawn(async move { asset.send().await.unwrap() })
    };
    // Four of five connections, and the two that may wait. What the node does by itself may have one of them for a moment.
    let mut waiting = Vec::new();
    eventually("six are under way", async || {
        waiting.retain(|asked: &JoinHandle<_>| !asked.is_finished());
        waiting.extend((waiting.len()..6).map(|_| ask()));
        let queued = node.metric("penstock_db_pool_connections", "server=\"primary\",state=\"waiting\"").await;
        queued >= 2.0 && waiting.iter().all(|asked| !asked.is_finished())
    })
    .await;
    for _ in 0..3 {
        let refused = ask().await.unwrap();
        assert_eq!(refused.headers()["retry-after"], "1");
        expect_problem(refused, 503, "dependency-unavailable").await;
    }
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    let ready = node.get("/health/ready").send().await.unwrap();
    assert_eq!(ready.json::<serde_json::Value>().await.unwrap()["dependencies"]["database"], "ok", "busy is not down");

    locker.batch_execute("COMMIT").await.unwrap();
    for answer in waiting {
        expect_problem(answer.await.unwrap(), 404, "unknown-asset").await;
    }
    at_rest(&node).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_counts_once_however_often_the_answers_of_the_ledger_get_lost() {
    const AT_A_TIME: usize = 8;
    const LOST: u64 = 20;
    const SIZE: usize = 10_000;
    let database = TestDatabase::empty().await;
    let proxy = Proxy::started(server(&database)).await;
    let mut node = setup(&database, proxy.address()).env("PENSTOCK_USAGE__BATCH_AGE", "1ms").start().await;
    node.tier("metered", json!({ "bytesPerHour": 1_u64 << 40, "requestsPerHour": 1_u64 << 30 })).await;
    let bytes = sample(44, SIZE);
    let paid = node.paid(&bytes, "metered").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);

    let stream = async || {
        let answer = node.stream(&paid).send().await.unwrap();
        if answer.status() != 200 {
            // It needed the ledger, whose answer was lost.
            expect_problem(answer, 503, "dependency-unavailable").await;
            return 0;
        }
        assert_eq!(answer.bytes().await.unwrap(), bytes);
        1_u64
    };
    // Prime, and more than a connection needs to begin, so that what is lost changes.
    proxy.set(Fault::LoseAnswers(7));
    let mut delivered = 0;
    eventually("enough answers are lost", async || {
        delivered += join_all((0..AT_A_TIME).map(|_| stream())).await.into_iter().sum::<u64>();
        proxy.lost() >= LOST
    })
    .await;
    proxy.heal();

    at_rest(&node).await;
    assert!(node.metric("penstock_usage_retries_total", "").await > 0.0);
    assert!(delivered > 0);
    let (rows, expected) = (usage_rows(&node, &paid.receipt).await, delivered + 1);
    assert_eq!((rows.len() as u64, bytes_of(&rows)), (expected, expected * SIZE as u64));
    assert_eq!(node.charged(&paid.receipt).await, (expected * SIZE as u64, expected));
    node.finish().await;
}
