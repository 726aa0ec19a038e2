//! The official Python client, as people use it, against a real node.

use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    node::{TestNode, expect, text},
    scene::{graph, names},
};

/// Where the test command has installed the client: a folder that Python can import it from.
const CLIENT: &str = "PENSTOCK_TEST_OPENLINEAGE";

/// Runs the script beside this file; what it says.
async fn run_client(node: &TestNode, key: &str, compression: &str) -> Value {
    let client = std::env::var(CLIENT).unwrap_or_else(|_| panic!("{CLIENT} is not set: run ./test"));
    let output = Command::new("python3")
        .env("PYTHONPATH", client)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lineage/client.py"))
        .args([node.url(""), key.to_owned(), compression.to_owned()])
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env("NO_PROXY", "127.0.0.1")
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

on_both!(the_official_client_tells_of_a_pipeline, async |node: &mut TestNode| {
    let producer = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "airflow" })).send().await.unwrap();
    let key = text(&expect(producer, &[201]).await, "key");
    for compression in ["none", "gzip"] {
        let told = run_client(node, &key, compression).await;
        let path = format!("/v1/openlineage/runs/{}", text(&told, "runId"));
        let run = expect(node.get(&path).send().await.unwrap(), &[200]).await;
        assert_eq!((&run["state"], &run["events"]), (&json!("COMPLETE"), &json!(3)), "{run}");
        assert_eq!(run["facets"]["nominalTime"]["nominalStartTime"], "2026-11-01T00:00:00Z");
        assert_eq!(run["facets"]["penstock_test"]["anything"], "kept");
        assert_eq!(run["inputs"], json!(["dataset:postgres%3A//db%3A5432:shop.public.orders"]));
    }
    let found = graph(node, "dataset:postgres://db:5432:shop.public.orders", &[("depth", "2")]).await;
    assert_eq!(names(&found), ["daily.report", "reports/daily", "shop.public.orders"]);
    let dataset = node.get("/v1/openlineage/nodes/dataset/postgres%3A%2F%2Fdb%3A5432/shop.public.orders");
    let dataset = expect(dataset.send().await.unwrap(), &[200]).await;
    assert_eq!(dataset["facets"]["schema"]["fields"][0]["name"], "order_id");
    let job = expect(node.get("/v1/openlineage/jobs/airflow/daily.report").send().await.unwrap(), &[200]).await;
    assert_eq!(job["facets"]["sql"]["query"], "SELECT 1");
    assert_eq!(job["latestRuns"].as_array().unwrap().len(), 2);
    // A run event three times, a job event and a dataset event, from each of the two.
    assert_eq!(node.metric("penstock_lineage_events_total", "new").await, 10.0);
});
