//! Delivery by the nginx in front, as `config/nginx-accel.conf` sets it up.

use std::path::Path;

use reqwest::Response;
use serde_json::json;

use crate::{
    given::{header, outsider, path, rows},
    nginx::Nginx,
    node::{On, Paid, Setup, TestNode, expect_problem, sample},
    shipped::shipped,
};

/// The server block of an nginx in front of a node, with the locations that are shipped.
pub(crate) fn front(node: &TestNode, accel: &str) -> String {
    format!(
        "server {{
    listen LISTEN;
    location / {{
        proxy_pass http://{};
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        proxy_buffering off;
    }}
    {accel}
}}",
        node.address()
    )
}

/// What is shipped, for blobs in this folder.
fn locations(blobs: &Path) -> String {
    shipped("nginx-accel.conf", &[("/var/lib/penstock/blobs/blobs/", &format!("{}/blobs/", blobs.display()))])
}

/// A page of another origin that may read content.
const PLAYER: &str = "https://player.example.com";

pub(crate) fn accel(on: On) -> Setup {
    let setup = Setup::new(on).env("PENSTOCK_CORS__ORIGINS", PLAYER);
    setup.env("DATA_DELIVERY_MODE", "accel").env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1")
}

async fn start(on: On) -> (TestNode, Nginx) {
    let node = accel(on).start().await;
    let nginx = Nginx::start(&[], &front(&node, &locations(&node.data_dir().join("blobs")))).await;
    (node, nginx)
}

async fn get(nginx: &Nginx, paid: &Paid, fields: &[(&str, &str)]) -> Response {
    let request = outsider().get(nginx.url(&path(paid)));
    fields.iter().fold(request, |request, &(name, value)| request.header(name, value)).send().await.unwrap()
}

async fn nginx_sends_what_the_node_has_charged(on: On) {
    let (mut node, nginx) = start(on).await;
    for (seed, size) in [(20, 0), (21, 1), (22, 3_500_000)] {
        let bytes = sample(seed, size);
        let hash = node.put(&bytes, "video/mp4").await;
        let version = node.publish(&hash, "Füße.mp4").await;
        let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
        let paid = Paid { hash, version, receipt };
        let answer = get(&nginx, &paid, &[]).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), "video/mp4");
        assert_eq!(
            header(&answer, "content-disposition"),
            "inline; filename=\"F__e.mp4\"; filename*=UTF-8''F%C3%BC%C3%9Fe.mp4"
        );
        assert_eq!(header(&answer, "etag"), format!("\"{}\"", paid.hash));
        assert_eq!(header(&answer, "content-length"), size.to_string());
        assert_eq!(header(&answer, "cache-control"), "private, no-cache");
        assert!(header(&answer, "content-security-policy").starts_with("sandbox"));
        assert_eq!(header(&answer, "cross-origin-resource-policy"), "cross-origin");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        let stored = node.stream(&paid).header("if-none-match", "*").send().await.unwrap();
        assert_eq!(header(&answer, "last-modified"), header(&stored, "last-modified"), "not that of the file");
        assert_eq!((header(&answer, "x-receipt-id"), header(&answer, "x-quota-tier")), (&*paid.receipt, "premium"));
        assert!(!header(&answer, "repr-digest").is_empty() && !header(&answer, "x-request-id").is_empty());
        for internal in ["x-accel-redirect", "x-accel-limit-rate"] {
            assert_eq!(header(&answer, internal), "", "{internal} is between the node and nginx");
        }
        assert!(answer.bytes().await.unwrap() == bytes);
        let head = outsider().head(nginx.url(&path(&paid))).send().await.unwrap();
        assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, &*size.to_string()));
        assert_eq!(node.charged(&paid.receipt).await, (size as u64, 1), "HEAD is charged nothing");
        assert_eq!(rows(&node, &paid.receipt).await, [("delegated".to_owned(), size as u64)]);
    }
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"accel\",outcome=\"given\"").await, 3.0);
    assert_eq!(node.metric("penstock_content_read_bytes_total", "").await, 0.0, "the node has read nothing");
    assert_eq!(nginx.complaints(), "");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_sends_what_the_node_has_charged_on_sqlite() {
    nginx_sends_what_the_node_has_charged(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_sends_what_the_node_has_charged_on_postgres() {
    nginx_sends_what_the_node_has_charged(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_range_as_much_is_charged_as_nginx_sends() {
    let (mut node, nginx) = start(On::Sqlite).await;
    let bytes = sample(23, 100_000);
    let paid = node.paid(&bytes, "premium").await;
    let mut charged = 0;
    for (range, sent) in [
        ("bytes=0-0", 0..1),
        ("bytes=99999-", 99_999..100_000),
        ("bytes=-7", 99_993..100_000),
        ("bytes=-200000", 0..100_000),
        ("bytes=500-1999999", 500..100_000),
    ] {
        let answer = get(&nginx, &paid, &[("range", range), ("origin", PLAYER)]).await;
        assert_eq!(answer.status(), 206, "{range}");
        assert_eq!(header(&answer, "access-control-allow-origin"), PLAYER);
        assert!(header(&answer, "access-control-expose-headers").contains("repr-digest"));
        assert!(header(&answer, "vary").contains("Origin"));
        let (first, last) = (sent.start, sent.end - 1);
        assert_eq!(header(&answer, "content-range"), format!("bytes {first}-{last}/100000"));
        assert_eq!(header(&answer, "etag"), format!("\"{}\"", paid.hash));
        assert_eq!(answer.bytes().await.unwrap(), &bytes[sent.clone()]);
        charged += sent.len() as u64;
        assert_eq!(node.charged(&paid.receipt).await.0, charged, "{range}");
    }
    let outside = get(&nginx, &paid, &[("range", "bytes=100000-")]).await;
    assert_eq!(header(&outside, "content-range"), "bytes */100000");
    expect_problem(outside, 416, "range-not-satisfiable").await;
    assert!(rows(&node, &paid.receipt).await.iter().all(|(outcome, _)| outcome == "delegated"));
    assert_eq!(node.charged(&paid.receipt).await, (charged, 5));
    node.finish().await;
}

/// nginx knows neither the content's tag nor several ranges as the node reads them, so the node answers, and charges what it
/// has sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nginx_would_answer_differently_the_node_streams_itself() {
    let (mut node, nginx) = start(On::Sqlite).await;
    let bytes = sample(24, 100_000);
    let paid = node.paid(&bytes, "premium").await;
    let tag = format!("\"{}\"", paid.hash);
    let mut charged = 0;
    for (fields, status, length) in [
        (vec![("if-match", &*tag)], 200, 100_000),
        (vec![("range", "bytes=0-9"), ("if-range", &*tag)], 206, 10),
        (vec![("range", "bytes=0-9"), ("if-range", "\"other\"")], 200, 100_000),
        (vec![("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200, 100_000),
        (vec![("if-unmodified-since", "Thu, 01 Jan 2099 00:00:00 GMT")], 200, 100_000),
        (vec![("range", "bytes=0-99999999999999999999")], 206, 100_000),
        (vec![("range", "items=0-9")], 200, 100_000),
    ] {
        let answer = get(&nginx, &paid, &fields).await;
        assert_eq!(answer.status(), status, "{fields:?}");
        assert_eq!(answer.bytes().await.unwrap().len(), length, "{fields:?}");
        charged += length as u64;
    }
    let several = get(&nginx, &paid, &[("range", "bytes=0-9,50-59")]).await;
    assert_eq!(several.status(), 206);
    assert!(header(&several, "content-type").starts_with("multipart/byteranges"));
    several.bytes().await.unwrap();
    charged += 20;
    assert_eq!(node.charged(&paid.receipt).await, (charged, 8));
    assert!(rows(&node, &paid.receipt).await.iter().all(|(outcome, _)| outcome == "completed"));
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"stream\",outcome=\"given\"").await, 8.0);
    // Where a condition decides, nothing is sent or charged.
    assert_eq!(get(&nginx, &paid, &[("if-none-match", &tag)]).await.status(), 304);
    let since = ("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT");
    assert_eq!(get(&nginx, &paid, &[since]).await.status(), 304);
    expect_problem(get(&nginx, &paid, &[("if-match", "\"other\"")]).await, 412, "precondition-failed").await;
    assert_eq!(node.charged(&paid.receipt).await, (charged, 8));
    // A tag that does not match lets nginx send.
    let sent = get(&nginx, &paid, &[("if-none-match", "\"other\"")]).await;
    assert_eq!((sent.status().as_u16(), sent.bytes().await.unwrap().len()), (200, 100_000));
    assert_eq!(rows(&node, &paid.receipt).await.last().unwrap().0, "delegated");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_bypasses_the_node() {
    let (mut node, nginx) = start(On::Sqlite).await;
    let paid = node.paid(&sample(25, 1000), "standard").await;
    let inside = format!("/_penstock/files/{}/{}/{}", &paid.hash[..2], &paid.hash[2..4], paid.hash);
    for path in [&*inside, &inside.replace("/_penstock", "//_penstock/"), &inside.replace("files", "x/../files")] {
        assert_eq!(outsider().get(nginx.url(path)).send().await.unwrap().status(), 404, "{path}");
    }
    // What a client says to nginx is not what the node says.
    let tricked = outsider().get(nginx.url("/health/live")).header("x-accel-redirect", &inside).send().await.unwrap();
    assert_eq!(tricked.text().await.unwrap(), r#"{"status":"ok"}"#);
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_through_nginx_is_sent_there_and_charged_nothing() {
    let mut node = accel(On::Sqlite).env("PENSTOCK_SERVER__TRUSTED_PROXIES", "192.0.2.0/24, 2001:db8::1").start().await;
    let bytes = sample(26, 1000);
    let paid = node.paid(&bytes, "standard").await;
    let answer = node.get(&path(&paid)).header("x-forwarded-for", "192.0.2.1").send().await.unwrap();
    assert_eq!(header(&answer, "x-accel-redirect"), "");
    expect_problem(answer, 421, "misdirected").await;
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"accel\",outcome=\"refused\"").await, 1.0);
    // What needs no nginx works anywhere.
    let head = node.client.head(node.url(&path(&paid))).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "1000"));
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    assert_eq!(node.charged(&paid.receipt).await, (1000, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_gets_the_bandwidth_of_the_tier() {
    let mut node = accel(On::Sqlite).start().await;
    node.tier("crawling", json!({ "maxBandwidthMbps": 0.000001 })).await;
    for (tier, rate) in [("standard", "1250000"), ("enterprise", "25000000"), ("unlimited", ""), ("crawling", "1")] {
        let paid = node.paid(&sample(27, 1000), tier).await;
        // This client is as trusted as nginx, so it sees what nginx sees.
        let told = node.get(&path(&paid)).send().await.unwrap();
        assert_eq!(header(&told, "x-accel-limit-rate"), rate, "{tier}");
        let inside = format!("/_penstock/files/{}/{}/{}", &paid.hash[..2], &paid.hash[2..4], paid.hash);
        assert_eq!(header(&told, "x-accel-redirect"), inside);
        assert_eq!(told.bytes().await.unwrap().len(), 0);
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nginx_that_cannot_read_the_blobs_says_so_without_a_word_of_where_they_are() {
    let mut node = accel(On::Sqlite).start().await;
    let nowhere = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(&[], &front(&node, &locations(nowhere.path()))).await;
    let paid = node.paid(&sample(28, 1000), "standard").await;
    let answer = get(&nginx, &paid, &[]).await;
    let problem = expect_problem(answer, 503, "content-unavailable").await;
    assert!(!problem.to_string().contains("_penstock"));
    // The node cannot know, and has charged it.
    assert_eq!(node.charged(&paid.receipt).await, (1000, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_the_binary_works_through_nginx() {
    let (mut node, nginx) = start(On::Sqlite).await;
    let bytes = sample(29, 2_000_000);
    let paid = node.paid(&bytes, "standard").await;
    let target = node.folder.path().join("got.bin");
    let got = node
        .command()
        .env("PENSTOCK_SERVER", nginx.url(""))
        .args(["get", &paid.hash, "--receipt", &paid.receipt, "-o", target.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert_eq!(rows(&node, &paid.receipt).await, [("completed".to_owned(), 2_000_000)]);
    node.finish().await;
}
