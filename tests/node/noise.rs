//! Tenants: one receipt, or one producer, that takes all it can get. The others do not notice.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    node::{On, Setup, expect, expect_problem, sample, text},
    wire::{connect, paused_stream},
};

/// Streams that the instance gives.
const STREAMS: usize = 400;

/// The share of one receipt.
const SHARE: usize = 244;

/// Connections of the greedy receipt: more than there are streams.
const GREEDY: usize = 500;

/// Streams of the quiet receipt, one after another.
const QUIET: usize = 50;

/// A greedy client: asks for a stream, keeps it without reading, and asks again when it is refused. The connection.
async fn grab(address: String, request: String) -> (u16, TcpStream) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    connection.read_exact(&mut head).await.unwrap();
    let status = std::str::from_utf8(&head[9..]).unwrap().parse().unwrap();
    (status, connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_without_limits_and_with_hundreds_of_connections_starves_no_other() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_STREAMS__MAX_STREAMS", STREAMS.to_string()).start().await;
    let noisy = node.paid(&sample(70, 8 << 20), "unlimited").await;
    let bytes = sample(71, 100_000);
    let quiet = node.paid(&bytes, "standard").await;
    let request =
        format!("GET /v1/streaming/data/{}?receiptId={} HTTP/1.1\r\nhost: node\r\n\r\n", noisy.hash, noisy.receipt);
    let mut greedy = JoinSet::new();
    for _ in 0..GREEDY {
        greedy.spawn(grab(node.address().to_owned(), request.clone()));
    }
    let mut held: BTreeMap<u16, Vec<TcpStream>> = BTreeMap::new();
    while let Some(grabbed) = greedy.join_next().await {
        let (status, connection) = grabbed.unwrap();
        held.entry(status).or_default().push(connection);
    }
    // Three fifths of the streams, and a refusal that says why.
    let counts: Vec<_> = held.iter().map(|(status, all)| (*status, all.len())).collect();
    assert_eq!(counts, [(200, SHARE), (429, GREEDY - SHARE)]);
    let refused = expect_problem(node.stream_apart(&noisy).send().await.unwrap(), 429, "too-many-streams").await;
    assert_eq!(refused["limit"], SHARE);
    // Meanwhile others knock again and again.
    let mut knocking = JoinSet::new();
    for _ in 0..8 {
        let (address, request) = (node.address().to_owned(), request.clone());
        knocking.spawn(async move {
            loop {
                assert_eq!(grab(address.clone(), request.clone()).await.0, 429);
            }
        });
    }
    for _ in 0..QUIET {
        let got = node.stream(&quiet).send().await.unwrap();
        assert_eq!(got.status(), 200);
        assert_eq!(got.bytes().await.unwrap(), bytes);
        expect(node.get(&format!("/v1/receipts/{}", quiet.receipt)).send().await.unwrap(), &[200]).await;
    }
    knocking.shutdown().await;
    drop(held);
    // All that comes back is there for the greedy receipt again.
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    drop(paused_stream(&node, &noisy, 1000).await);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_with_many_uploads_starves_no_other() {
    const UPLOADS: usize = 8;
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_UPLOADS__CONCURRENT", UPLOADS.to_string()).start().await;
    let key = async |name: &str| {
        let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": name })).send().await.unwrap();
        text(&expect(made, &[201]).await, "key")
    };
    let (greedy, quiet) = (key("greedy").await, key("quiet").await);
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut upload = connect(&node).await;
        let head = format!(
            "POST /v1/content HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {greedy}\r\ncontent-type: video/mp4\r\n\
             content-length: 1000000\r\n\r\nx"
        );
        upload.write_all(head.as_bytes()).await.unwrap();
        held.push(upload);
    }
    node.metric_becomes("penstock_uploads_active", "", held.len() as f64).await;
    let put = |key: &str, bytes: &'static str| {
        node.client.post(node.url("/v1/content")).bearer_auth(key).header("content-type", "text/plain").body(bytes)
    };
    expect_problem(put(&greedy, "one more").send().await.unwrap(), 429, "too-many-uploads").await;
    expect(put(&quiet, "of another").send().await.unwrap(), &[201]).await;
    drop(held);
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
    expect(put(&greedy, "one more").send().await.unwrap(), &[201]).await;
    node.finish().await;
}

/// One client guesses receipts, as fast as it can. Its limit ends that; another client does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_guesses_receipts_is_limited_and_others_are_not() {
    const LIMIT: usize = 30;
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_RATE_LIMITS__STREAMING", LIMIT.to_string());
    let mut node = setup.env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1").start().await;
    let paid = node.paid(b"a film", "standard").await;
    let from = |address: &str, receipt: String| {
        let call = node.get(&format!("/v1/streaming/data/{}", paid.hash)).header("x-receipt-id", receipt);
        call.header("x-forwarded-for", address)
    };
    let mut limited = 0;
    for _ in 0..2 * LIMIT {
        let answer = from("192.0.2.1", uuid::Uuid::new_v4().to_string()).send().await.unwrap();
        match answer.status().as_u16() {
            404 => {}
            429 => limited += 1,
            status => panic!("{status}"),
        }
    }
    assert!(limited >= LIMIT - 1, "{limited} guesses were refused");
    // Not even a true receipt tells it more.
    let answer = from("192.0.2.1", paid.receipt.clone()).send().await.unwrap();
    expect_problem(answer, 429, "rate-limited").await;
    let answer = from("192.0.2.2", paid.receipt.clone()).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), "a film");
    node.finish().await;
}

/// Machines are addresses of loopback here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_hundreds_of_idle_connections_starves_no_other() {
    const CONNECTIONS: usize = 200;
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__MAX_CONNECTIONS", CONNECTIONS.to_string());
    let mut node = setup.start().await;
    let paid = node.paid(b"a film", "standard").await;
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        idle.push(connect(&node).await);
    }
    let other = reqwest::Client::builder().no_proxy().local_address("127.0.0.2".parse::<std::net::IpAddr>().unwrap());
    // Each request over a connection of its own.
    let other = other.pool_max_idle_per_host(0).build().unwrap();
    for _ in 0..QUIET {
        let url = node.url(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt));
        assert_eq!(other.get(url).send().await.unwrap().text().await.unwrap(), "a film");
    }
    let refused = other.get(node.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let refused = refused.lines().find_map(|line| line.strip_prefix("penstock_http_connections_refused_total "));
    assert!(refused.unwrap().parse::<usize>().unwrap() >= CONNECTIONS, "{refused:?}");
    drop(idle);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    node.finish().await;
}
