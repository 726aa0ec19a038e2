//! The log: one line for each request, with what finds it again and nothing that must stay secret, at a level that changes while
//! the node runs.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, sample},
    patience::eventually,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A node that logs to a file.
async fn logging(level: &str, format: &str) -> (TestNode, NamedTempFile) {
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_LOG__LEVEL", level).env("PENSTOCK_LOG__FORMAT", format);
    let mut node = setup.start().await;
    assert!(node.terminate().await.success());
    let log = NamedTempFile::new().unwrap();
    node.boot_logging_to(log.reopen().unwrap()).await;
    (node, log)
}

fn text(log: &NamedTempFile) -> String {
    fs::read_to_string(log.path()).unwrap()
}

/// The lines about a request.
fn about(log: &NamedTempFile, request: &str) -> Vec<Value> {
    let lines = text(log);
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "penstock::access" && line["span"]["request_id"] == request).collect()
}

async fn line_about(log: &NamedTempFile, request: &str) -> Value {
    eventually(&format!("{request} is logged"), async || !about(log, request).is_empty()).await;
    let mut lines = about(log, request);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_one_line_with_its_ids_and_its_outcome() {
    let (mut node, log) = logging("info", "json").await;
    let paid = node.paid(&sample(1, 70_000), "unlimited").await;
    let traced = node.stream(&paid).header("x-request-id", "served").header("tracestate", "vendor=1");
    let answer = traced.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await.unwrap();
    let response = answer.headers()["traceresponse"].to_str().unwrap().to_owned();
    assert_eq!(answer.bytes().await.unwrap().len(), 70_000);
    let line = line_about(&log, "served").await;
    for (member, expected) in [
        ("method", json!("GET")),
        ("route", json!("/v1/streaming/data/{contentHash}")),
        ("status", json!(200)),
        ("bytes", json!(70_000)),
        ("outcome", json!("completed")),
    ] {
        assert_eq!(line[member], expected, "{member}: {line}");
    }
    let span = &line["span"];
    assert_eq!((&span["trace_id"], &span["parent_id"]), (&json!(TRACE), &json!(CALLER)), "{line}");
    assert_eq!(response, format!("00-{TRACE}-{}-01", span["span_id"].as_str().unwrap()));
    assert_eq!(line["content"], paid.hash);
    assert_eq!(line["receipt"], paid.receipt[..8], "enough to find it, too little to use it");

    // A trace that cannot be read is none, and a refusal says which.
    let refused = node.get(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, uuid::Uuid::new_v4()));
    let refused = refused.header("x-request-id", "refused").header("traceparent", format!("00-{TRACE}-{CALLER}"));
    let refused = refused.send().await.unwrap();
    assert!(!refused.headers().contains_key("traceresponse"));
    expect_problem(refused, 404, "unknown-receipt").await;
    let line = line_about(&log, "refused").await;
    assert_eq!((&line["status"], &line["problem"]), (&json!(404), &json!("unknown-receipt")), "{line}");
    assert_eq!(line["span"]["trace_id"], Value::Null);
    assert!(!text(&log).contains(&paid.receipt), "a receipt is in the log");
    node.finish().await;
}

/// Also where the filter looks into spans, and where the caller traces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_that_a_request_causes_names_it() {
    for (level, traceparent) in
        [("info", None), ("info", Some(format!("00-{TRACE}-{CALLER}-01"))), ("info,[request]=debug", None)]
    {
        let (mut node, log) = logging(level, "json").await;
        let paid = node.paid(&sample(2, 70_000), "unlimited").await;
        fs::rename(node.data_dir().join("blobs"), node.data_dir().join("elsewhere")).unwrap();
        let mut refused = node.stream(&paid).header("x-request-id", "unlucky");
        if let Some(traceparent) = &traceparent {
            refused = refused.header("traceparent", traceparent);
        }
        assert_eq!(refused.send().await.unwrap().status(), 503);
        let line = line_about(&log, "unlucky").await;
        assert_eq!(line["status"], 503);
        let lines = text(&log);
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let warned: Vec<_> =
            lines.filter(|line| line["span"]["request_id"] == "unlucky" && line["level"] == "WARN").collect();
        assert!(!warned.is_empty(), "{level}: {}", text(&log));
        fs::rename(node.data_dir().join("elsewhere"), node.data_dir().join("blobs")).unwrap();
        node.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_changes_the_level_while_the_node_runs() {
    let (mut node, log) = logging("error", "text").await;
    let set = async |level: Value| {
        node.admin(Method::PUT, "/v1/admin/log-level").json(&json!({ "level": level })).send().await.unwrap()
    };
    let shown = node.admin(Method::GET, "/v1/admin/log-level").send().await.unwrap();
    assert_eq!(expect(shown, &[200]).await, json!({ "level": "error", "configured": "error" }));
    node.get("/v1/catalog?q=before").header("x-request-id", "before").send().await.unwrap();

    let changed = expect(set(json!("warn,penstock::access=debug")).await, &[200]).await;
    assert_eq!(changed, json!({ "level": "warn,penstock::access=debug", "configured": "error" }));
    node.get("/health/live").header("x-request-id", "during").send().await.unwrap();
    eventually("the finer level shows", async || text(&log).contains("during")).await;
    for bad in [json!("loudest"), json!(""), json!("x".repeat(1025)), json!("penstock=loudest")] {
        expect_problem(set(bad).await, 422, "validation-failed").await;
    }

    // The command line does the same, and goes back.
    let run = async |arguments: &[&str]| {
        let mut command = node.command();
        command.env("PENSTOCK_SERVER", node.url("")).env("PENSTOCK_KEY", ADMIN_KEY).arg("log-level").args(arguments);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[]).await, "warn,penstock::access=debug\n");
    assert_eq!(run(&["off"]).await, "off\n");
    assert_eq!(run(&["--reset"]).await, "error\n");
    node.get("/v1/catalog?q=after").header("x-request-id", "after").send().await.unwrap();
    assert!(node.terminate().await.success());
    let lines = text(&log);
    assert!(!lines.contains("request_id=before") && !lines.contains("request_id=after"), "{lines}");
    // Each change is there, whatever the level is.
    let audited = lines.lines().filter(|line| line.contains("penstock::audit") && line.contains("key_id=")).count();
    assert_eq!(audited, 3, "{lines}");
}
