//! More clients than the node serves: each bound is reached, those beyond it are told at once when to come back, and all others go on.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, future::join_all, stream};
use reqwest::Method;
use serde_json::Value;

use crate::{
    node::{ADMIN_KEY, On, Setup, expect, expect_problem, sample},
    patience::eventually,
    still::at_rest,
    wire::Wire,
};

/// More than the buffers on the way take in, so that a stream that is not read is in the middle.
const LARGE: usize = 8 << 20;

/// What is answered to a request on this connection: the head and the body.
async fn asked_for(path: &str, wire: &mut Wire) -> (String, Vec<u8>) {
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n").as_bytes()).await;
    let head = wire.head().await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let body = wire.read_on(length.parse().expect("a number")).await;
    (head, body)
}

async fn asked(wire: &mut Wire) -> (String, Vec<u8>) {
    asked_for("/health/live", wire).await
}

/// A metric without labels, read on this connection, because there may be no place for another one.
async fn metric(name: &str, wire: &mut Wire) -> f64 {
    let (_, page) = asked_for("/metrics", wire).await;
    let page = String::from_utf8(page).expect("text");
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is missing")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_beyond_the_bound_gets_503_and_the_others_go_on() {
    const PLACES: usize = 4;
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__MAX_CONNECTIONS", PLACES.to_string());
    // One address may take all places.
    let setup = setup.env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    let mut node = setup.env("PENSTOCK_SERVER__WORKERS", "2").start().await;
    let bytes = sample(60, LARGE);
    // From here on the client of the test has one of the places, and keeps it.
    let paid = node.paid(&bytes, "unlimited").await;
    let mut running = Wire::streaming(&node, &paid).await;
    let mut idle = Wire::to(&node).await;
    let mut silent = Wire::to(&node).await;
    assert!(asked(&mut idle).await.0.starts_with("HTTP/1.1 200"));
    eventually("all places are taken", async || metric("penstock_http_connections", &mut idle).await == PLACES as f64)
        .await;

    for _ in 0..20 {
        let mut refused = Wire::to(&node).await;
        let (head, body) = asked(&mut refused).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("\r\nretry-after: 1\r\n") && head.contains("\r\nconnection: close\r\n"), "{head}");
        let problem: Value = serde_json::from_slice(&body).expect("a problem document");
        assert_eq!((&problem["type"], &problem["retryAfter"]), (&"urn:penstock:problem:overloaded".into(), &1.into()));
        assert!(refused.read(1).await.is_ok_and(|rest| rest.is_empty()), "closed in an orderly way");
    }
    // One that says nothing is let go as well.
    let mut mute = Wire::to(&node).await;
    assert!(mute.read(1).await.map_or(true, |nothing| nothing.is_empty()));

    assert!(metric("penstock_http_connections_refused_total", &mut idle).await >= 21.0);
    assert_eq!(metric("penstock_http_connections_max", &mut idle).await, PLACES as f64);
    assert!(asked(&mut idle).await.0.starts_with("HTTP/1.1 200"));
    assert!(asked(&mut silent).await.0.starts_with("HTTP/1.1 200"));
    assert!(running.read_on(bytes.len()).await == bytes, "the stream goes on");
    drop(running);
    eventually("a place that is free is given away", async || {
        asked(&mut Wire::to(&node).await).await.0.starts_with("HTTP/1.1 200")
    })
    .await;
    drop((idle, silent, mute));
    at_rest(&node).await;
    assert_eq!(node.charged(&paid.receipt).await, (bytes.len() as u64, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_refuses_a_bounded_number_of_connections_at_a_time_and_the_rest_in_turn() {
    const PLACES: usize = 4;
    const REFUSED_AT_A_TIME: usize = 1024;
    rlimit::increase_nofile_limit(8192).expect("the system allows more open files");
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__MAX_CONNECTIONS", PLACES.to_string());
    let mut node = setup.env("PENSTOCK_SERVER__WORKERS", "1").start().await;
    let mut idle = Wire::to(&node).await;
    assert!(asked(&mut idle).await.0.starts_with("HTTP/1.1 200"));
    let before = node.open_files();

    // They say nothing, so each is held for the whole time that a refusal may take.
    let crowd = join_all((0..REFUSED_AT_A_TIME + 400).map(|_| Wire::to(&node))).await;
    let most = std::cell::Cell::new(0);
    let watch = async {
        loop {
            most.set(most.get().max(node.open_files()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = stream::iter(crowd).map(async |mut one| one.read(1).await.map_or(true, |rest| rest.is_empty()));
    // The last places go to some of them, and those stay.
    let ended = ended.buffer_unordered(usize::MAX).filter(|ended| std::future::ready(*ended));
    tokio::select! {
        () = watch => {}
        ended = ended.take(REFUSED_AT_A_TIME + 400 - PLACES).count() => {
            assert_eq!(ended, REFUSED_AT_A_TIME + 400 - PLACES, "none waits for ever");
        }
    }
    assert!(most.get() <= before + REFUSED_AT_A_TIME + PLACES, "{} open files after {before}", most.get());
    assert!(asked(&mut idle).await.0.starts_with("HTTP/1.1 200"));
    assert!(metric("penstock_http_connections_refused_total", &mut idle).await >= REFUSED_AT_A_TIME as f64);
    drop(idle);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_the_bound_gets_503_before_the_ledger_is_asked_and_the_log_stays_short() {
    const PLACES: usize = 2;
    const REFUSED: usize = 400;
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_STREAMS__MAX_STREAMS", PLACES.to_string());
    let mut node = setup.env("PENSTOCK_SERVER__WORKERS", "1").start().await;
    let log = node.folder.path().join("log");
    node.terminate().await;
    node.boot_logging_to(std::fs::File::create(&log).unwrap()).await;
    let bytes = sample(61, LARGE);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut running = Vec::new();
    for _ in 0..PLACES {
        running.push(Wire::streaming(&node, &paid).await);
    }
    let refills = node.metric("penstock_quota_refills_total", "").await;

    let began = Instant::now();
    stream::iter(0..REFUSED)
        .for_each_concurrent(16, async |number| {
            // Receipts that nobody has asked for would each cost a question to the ledger.
            let stream = node.get(&format!("/v1/streaming/data/{}", paid.hash));
            let stream = stream.header("x-receipt-id", uuid::Uuid::new_v4().to_string());
            let stream = if number % 2 == 0 { stream } else { stream.header("range", "bytes=0-0") };
            expect_problem(stream.send().await.unwrap(), 503, "overloaded").await;
        })
        .await;
    let seconds = began.elapsed().as_secs();

    assert_eq!(node.metric("penstock_quota_refills_total", "").await, refills, "the ledger was not asked");
    expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
    node.quota(&paid.receipt).await;
    let said = |what: &str| {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains(what)).count() as u64
    };
    eventually("the access log has all", async || said("status=503") == REFUSED as u64).await;
    let lines = said("a request could not be served");
    assert!((1..=10 * (seconds + 2)).contains(&lines), "{lines} lines in {seconds} s");

    for running in &mut running {
        assert!(running.read_on(bytes.len()).await == bytes, "a running stream goes on");
    }
    drop(running);
    eventually("a place that is free is given away", async || {
        let answer = node.stream(&paid).send().await.unwrap();
        answer.status() == 200 && answer.bytes().await.unwrap() == bytes
    })
    .await;
    at_rest(&node).await;
    assert_eq!(node.charged(&paid.receipt).await, (3 * bytes.len() as u64, 3));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_beyond_the_bound_gets_503_and_streams_go_on() {
    let mut node = Setup::new(On::Sqlite).start().await;
    let bytes = sample(64, LARGE);
    let paid = node.paid(&bytes, "unlimited").await;
    let path = format!("/v1/storage/verify/{}", paid.hash);
    eventually("one of many at a time is refused", async || {
        let verify = |_| node.admin(Method::POST, &path).send();
        let mut refused = 0;
        for answer in join_all((0..16).map(verify)).await {
            let answer = answer.unwrap();
            if answer.status() == 503 {
                expect_problem(answer, 503, "overloaded").await;
                refused += 1;
            } else {
                expect(answer, &[200, 202]).await;
            }
        }
        refused > 0
    })
    .await;
    assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);
    at_rest(&node).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_holds_its_connection_for_a_bounded_time() {
    let mut node = Setup::new(On::Sqlite).start().await;
    let mut wire = Wire::to(&node).await;
    let head = "POST /v1/assets HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: 100\r\n";
    wire.send(format!("{head}authorization: Bearer {ADMIN_KEY}\r\n\r\n{{").as_bytes()).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(String::from_utf8_lossy(&wire.read_on(1 << 10).await).contains("urn:penstock:problem:request-timeout"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_beyond_the_bound_gets_503_and_streams_go_on() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_UPLOADS__CONCURRENT", "1").start().await;
    let bytes = sample(62, 100_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let first = sample(63, 1000);
    let mut running = Wire::uploading(&node, first.len() as u64).await;
    running.send(&first[..500]).await;
    eventually("it runs", async || node.metric("penstock_uploads_active", "").await == 1.0).await;

    let again = || node.admin(Method::POST, "/v1/content").body(vec![7; 10_000]);
    expect_problem(again().send().await.unwrap(), 503, "overloaded").await;
    assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);

    running.send(&first[500..]).await;
    assert!(running.head().await.starts_with("HTTP/1.1 201"));
    eventually("its place is given away", async || again().send().await.unwrap().status().is_success()).await;
    at_rest(&node).await;
    node.finish().await;
}

/// As Python's `http.client` does: it writes all of a body before it reads, and takes longer for it than a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_is_told_so_although_its_client_first_sends_everything() {
    const PIECE: usize = 1 << 20;
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_UPLOADS__CONCURRENT", "1").start().await;
    let first = sample(64, 1000);
    let mut running = Wire::uploading(&node, first.len() as u64).await;
    running.send(&first[..500]).await;
    eventually("it runs", async || node.metric("penstock_uploads_active", "").await == 1.0).await;

    let mut refused = Wire::uploading(&node, 8 * PIECE as u64).await;
    for _ in 0..8 {
        refused.send(&vec![7; PIECE]).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(refused.head().await.starts_with("HTTP/1.1 503 "));

    running.send(&first[500..]).await;
    assert!(running.head().await.starts_with("HTTP/1.1 201"));
    at_rest(&node).await;
    node.finish().await;
}
