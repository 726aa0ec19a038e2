//! Whatever a client sends that is not right, what it is told is in this project's own words: over all calls, with what no parser
//! takes in each place that a parser reads.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    node::{On, Setup, TestNode, sample},
    words::{assert_none_of_theirs, assert_ours},
};

/// Texts that parsers of numbers, times, hashes, ranges, names and types stumble over.
const HOSTILE: [&str; 22] = [
    "",
    " ",
    "-1",
    "+1",
    "1.5",
    "1e9",
    "0x10",
    "18446744073709551616",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "%zz",
    "%ff%fe",
    "\"",
    "a,b",
    "2030-01-31",
    "67e5504410b1426f9247bb680e5fe0c8",
    "67e55044-10b1-426f-9247-bb680e5fe0cg",
    "Ł\u{301}",
    "🌊",
];

/// Calls that read something from their path or their query, with the names of what they read.
const CALLS: [(&str, &str, &[&str]); 30] = [
    ("GET", "/v1/streaming/data/{}", &["receiptId", "sessionId"]),
    ("GET", "/v1/data/{}", &["receiptId"]),
    ("GET", "/v1/streaming/quotas/{}", &[]),
    ("GET", "/v1/streaming/sessions/{}", &[]),
    ("GET", "/v1/streaming/policies/{}", &[]),
    (
        "GET",
        "/v1/assets",
        &["q", "datasetId", "producerId", "mediaType", "minPrice", "maxPrice", "limit", "cursor", "facets"],
    ),
    ("GET", "/v1/assets/{}", &[]),
    ("GET", "/v1/receipts/{}", &[]),
    ("GET", "/v1/receipts/{}/usage", &["limit", "cursor", "from", "to"]),
    ("GET", "/v1/policies", &["limit", "cursor"]),
    ("GET", "/v1/policies/{}", &["limit"]),
    ("GET", "/v1/policies/{}/runs", &["versionId", "limit", "cursor"]),
    ("GET", "/v1/producers", &["limit", "cursor"]),
    ("GET", "/v1/producers/{}", &[]),
    ("GET", "/v1/producers/{}/keys", &["limit", "cursor"]),
    ("GET", "/v1/producers/{}/identities", &[]),
    ("DELETE", "/v1/producers/{}/keys/{}", &[]),
    ("DELETE", "/v1/producers/{}/identities/{}", &[]),
    ("POST", "/v1/storage/verify/{}", &[]),
    ("GET", "/v1/storage/verifications/{}", &["limit", "cursor"]),
    ("GET", "/v1/openlineage/lineage", &["node", "nodeId", "depth", "direction", "format"]),
    ("GET", "/v1/openlineage/nodes/dataset/{}/{}", &[]),
    ("GET", "/v1/openlineage/jobs/{}/{}", &[]),
    ("GET", "/v1/openlineage/runs/{}", &["include"]),
    ("GET", "/v1/openlineage/search", &["q", "limit"]),
    ("POST", "/v1/content", &["contentHash"]),
    ("POST", "/api/v1/lineage", &[]),
    ("POST", "/api/v1/lineage/batch", &[]),
    ("POST", "/v1/assets", &[]),
    ("POST", "/v1/receipts", &[]),
];

/// Header fields that the node reads.
const FIELDS: [&str; 13] = [
    "range",
    "if-range",
    "if-none-match",
    "if-match",
    "if-modified-since",
    "accept",
    "accept-encoding",
    "content-type",
    "content-encoding",
    "repr-digest",
    "content-digest",
    "x-receipt-id",
    "want-repr-digest",
];

/// Texts: those that are known to be hard, and any others.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![3 => proptest::sample::select(&HOSTILE[..]).prop_map(str::to_owned), 1 => "[ -~]{0,12}", 1 => "\\PC{0,8}"]
}

fn drawn<T>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T
where
    T: std::fmt::Debug,
{
    strategy.new_tree(runner).unwrap().current()
}

/// The same requests in every run.
fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

async fn assert_reported_in_plain_words(request: RequestBuilder, of: &str) {
    let answer = request.send().await.unwrap();
    let (status, kind) = (answer.status().as_u16(), answer.headers().get("content-type").cloned());
    if status < 400 {
        return;
    }
    assert!(status < 500 || status == 503, "{of}: {status}");
    let told = answer.text().await.unwrap();
    // The framework refuses a request without a document when it cannot read its head.
    if kind.is_none() {
        return assert!(told.is_empty(), "{of}: {told}");
    }
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{of}: {told}"));
    assert_none_of_theirs(told["title"].as_str().unwrap(), of);
    assert_none_of_theirs(told["detail"].as_str().unwrap_or_default(), of);
    for error in told["errors"].as_array().into_iter().flatten() {
        assert_ours(error["detail"].as_str().unwrap(), of);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_stands_in_a_path_a_query_or_a_header_is_reported_in_plain_words() {
    let mut node = Setup::new(On::Sqlite).start().await;
    let paid = node.paid(&sample(3, 1000), "standard").await;
    let (mut runner, texts) = (runner(), texts());
    for round in 0..25 {
        for (method, path, names) in CALLS {
            let mut url = reqwest::Url::parse(&node.url("/")).unwrap();
            let mut parts = Vec::new();
            for part in path.split('/').skip(1) {
                // Half of the contents and receipts are right, so that what comes after them is read.
                let right = if path.contains("receipts") { &paid.receipt } else { &paid.hash };
                parts.push(match part {
                    "{}" if round % 2 == 0 => right.clone(),
                    "{}" => drawn(&mut runner, &texts),
                    part => part.to_owned(),
                });
            }
            url.path_segments_mut().unwrap().clear().extend(parts);
            let mut request = node.admin(method.parse().unwrap(), "/");
            if !names.is_empty() {
                let name = names[drawn(&mut runner, &(0..names.len()))];
                url.query_pairs_mut().append_pair(name, &drawn(&mut runner, &texts));
            }
            if path.contains("/data/") && round % 4 == 0 {
                url.query_pairs_mut().append_pair("receiptId", &paid.receipt);
            }
            let field = FIELDS[drawn(&mut runner, &(0..FIELDS.len()))];
            let value: String = drawn(&mut runner, &texts).chars().filter(|char| !char.is_control()).collect();
            if method == "POST" {
                request = request.body(drawn(&mut runner, &texts));
            }
            let of = format!("{method} {url} {field}: {value}");
            let (client, built) = request.header(field, value).build_split();
            let mut built = built.unwrap();
            *built.url_mut() = url;
            assert_reported_in_plain_words(RequestBuilder::from_parts(client, built), &of).await;
        }
    }
    node.finish().await;
}

fn event() -> Value {
    json!({
        "eventTime": "2026-11-30T10:00:00Z", "producer": "https://example.org", "eventType": "START",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/definitions/RunEvent",
        "run": { "runId": "0190d3a4-0000-7000-8000-000000000001", "facets": { "a": {} } },
        "job": { "namespace": "a", "name": "b" }, "inputs": [{ "namespace": "c", "name": "d" }], "outputs": [],
    })
}

/// Sends the text as one event, and as one of a batch.
async fn both_ways(node: &TestNode, event: &str) {
    let post =
        |path: &str, body: String| node.admin(Method::POST, path).header("content-type", "application/json").body(body);
    assert_reported_in_plain_words(post("/api/v1/lineage", event.to_owned()), event).await;
    let batch = post("/api/v1/lineage/batch", format!("[{event}]"));
    let answer = batch.try_clone().unwrap().send().await.unwrap();
    if answer.status() != 200 {
        return assert_reported_in_plain_words(batch, event).await;
    }
    let report: Value = answer.json().await.unwrap();
    for result in report["results"].as_array().unwrap() {
        for error in result["errors"].as_array().into_iter().flatten() {
            assert_ours(error["detail"].as_str().unwrap(), event);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_an_event_of_lineage_is_reported_in_plain_words() {
    let mut node = Setup::new(On::Sqlite).start().await;
    let event = event();
    let text = event.to_string();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let times =
        ["2026-11-30T10:00:00", "2026-11-30", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-11-30T10:00:60Z"];
    let times = times.map(|time| text.replace("2026-11-30T10:00:00Z", time));
    for wrong in [
        "",
        "{",
        "NaN",
        "{\"a\":NaN}",
        "{\"a\":\"\\ud800\"}",
        "\u{feff}{}",
        "5",
        "null",
        "[]",
        "{}",
        "[}",
        "\"\\q\"",
        "{\"a\" 1}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([text.replace("\"a\":{}", &format!("\"a\":{deep}")), text.replace("\"a\":{}", "\"a\":{\"b\":\"\\ud800\"}")])
    .chain(times)
    {
        both_ways(&node, &wrong).await;
    }
    // A value of every type in the place of each value.
    for pointer in [
        "/eventTime",
        "/producer",
        "/run",
        "/run/runId",
        "/run/facets",
        "/run/facets/a",
        "/job/name",
        "/inputs",
        "/inputs/0",
    ] {
        for value in [Value::Null, json!(true), json!(1.5), json!("x"), json!([1]), json!({ "a": 1 })] {
            let mut event = event.clone();
            *event.pointer_mut(pointer).unwrap() = value;
            both_ways(&node, &event.to_string()).await;
        }
    }
    // What is wrong with the whole of a batch, or with its coding.
    let batch = |body: &'static [u8]| {
        node.admin(Method::POST, "/api/v1/lineage/batch").header("content-type", "application/json").body(body)
    };
    for body in [&b"{}"[..], b"null", b"5", b"\"a\"", b"[1", b"\xff", b"[1]x"] {
        assert_reported_in_plain_words(batch(body), &String::from_utf8_lossy(body)).await;
    }
    let told = batch(b"{}").send().await.unwrap();
    assert_eq!(told.status(), 422);
    let told: Value = told.json().await.unwrap();
    assert_eq!(told["errors"], json!([{ "path": "", "detail": "must be a list" }]));
    for body in [&b"{}"[..], b"", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc"] {
        assert_reported_in_plain_words(batch(body).header("content-encoding", "gzip"), "no gzip").await;
    }
    node.finish().await;
}
