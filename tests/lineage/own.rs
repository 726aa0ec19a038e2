//! What the node tells of itself.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{On, Setup, TestNode, expect, sample, text},
    scene::{ask, graph, names},
};

/// Waits until so much has been told.
async fn told(node: &TestNode, entries: f64) {
    node.metric_becomes("penstock_lineage_told_total", "outcome=\"told\"", entries).await;
}

async fn node_of(on: On) -> TestNode {
    Setup::new(on)
        .env("PENSTOCK_LINEAGE__EMIT_INTERVAL", "20ms")
        .env("PENSTOCK_LINEAGE__NAMESPACE", "penstock://here:1")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
        .start()
        .await
}

/// The whole of a content's way: put in, published, sold, streamed.
async fn a_content_can_be_traced(on: On) {
    let mut node = node_of(on).await;
    let hash = node.put(&sample(1, 100_000), "video/mp4").await;
    let asset = json!({ "contentHash": hash, "name": "A film", "datasetId": "films" });
    let asset = node.admin(Method::POST, "/v1/assets").json(&asset).send().await.unwrap();
    let version = text(&expect(asset, &[201]).await, "versionId");
    let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
    let paid = crate::node::Paid { hash: hash.clone(), version: version.clone(), receipt };
    told(&node, 3.0).await;
    for _ in 0..3 {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 100_000);
        node.metric_becomes("penstock_streams_active", "", 0.0).await;
    }
    assert_eq!(wait_for_streams(&node, &hash, 3).await, 300_000);

    let way = graph(&node, &format!("dataset:penstock%3A//here%3A1:content/{hash}"), &[("depth", "10")]).await;
    let mut expected = vec![
        format!("upload/{hash}"),
        format!("content/{hash}"),
        format!("publish/{version}"),
        format!("asset/{version}"),
        "dataset/films".to_owned(),
        format!("sell/{version}"),
        format!("stream/{hash}"),
    ];
    expected.sort();
    assert_eq!(names(&way), expected);
    let job = job(&node, &format!("stream/{hash}")).await;
    assert_eq!(job["latestRuns"][0]["state"], "RUNNING");
    let sold = self::job(&node, &format!("sell/{version}")).await;
    let run = text(&sold["latestRuns"][0], "runId");
    let run = expect(node.get(&format!("/v1/openlineage/runs/{run}")).send().await.unwrap(), &[200]).await;
    assert_eq!(run["facets"]["penstock_receipt"]["quotaTier"], "premium");
    // A receipt's id is a right: whoever looks at lineage must not learn it.
    for answer in [way.to_string(), job.to_string(), sold.to_string(), run.to_string()] {
        assert!(!answer.contains(&paid.receipt), "{answer}");
    }
    node.finish().await;
}

async fn job(node: &TestNode, name: &str) -> Value {
    let path = format!("/v1/openlineage/jobs/penstock%3A%2F%2Fhere%3A1/{}", name.replace('/', "%2F"));
    expect(node.get(&path).send().await.unwrap(), &[200]).await
}

/// Waits until so many streams of a content have been told; the bytes that they come to over all events of its run.
async fn wait_for_streams(node: &TestNode, hash: &str, expected: u64) -> u64 {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let (streams, bytes) = streams_told(node, hash).await;
        if streams == expected {
            return bytes;
        }
        assert!(std::time::Instant::now() < deadline && streams < expected, "{streams} streams, {bytes} bytes");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn streams_told(node: &TestNode, hash: &str) -> (u64, u64) {
    let path = format!("/v1/openlineage/jobs/penstock%3A%2F%2Fhere%3A1/stream%2F{hash}");
    let job = node.get(&path).send().await.unwrap();
    if job.status() == 404 {
        return (0, 0);
    }
    let run = text(&expect(job, &[200]).await["latestRuns"][0], "runId");
    let run = node.get(&format!("/v1/openlineage/runs/{run}?include=events")).send().await.unwrap();
    let run = expect(run, &[200]).await;
    let facet = |event: &Value| event["event"]["inputs"][0]["inputFacets"]["penstock_streams"].clone();
    let facets: Vec<Value> = run["history"].as_array().unwrap().iter().map(facet).collect();
    let sum = |member: &str| facets.iter().map(|facet| facet[member].as_u64().unwrap()).sum();
    (sum("streams"), sum("bytesSent"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_can_be_traced_from_its_upload_to_its_streams_on_sqlite() {
    a_content_can_be_traced(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_can_be_traced_from_its_upload_to_its_streams_on_postgres() {
    a_content_can_be_traced(On::Postgres).await;
}

/// What happened while the node could not tell of it is told later, once.
async fn tells_after_a_crash(on: On) {
    let mut node = Setup::new(on).env("PENSTOCK_LINEAGE__EMIT_INTERVAL", "1h").start().await;
    // The first look, at the start, found nothing; the next one is far away.
    let hashes = [node.put(b"one", "text/plain").await, node.put(b"two", "text/plain").await];
    assert_eq!(node.metric("penstock_lineage_told_total", "outcome=\"told\"").await, 0.0);
    node.kill().await;
    node.set_env("PENSTOCK_LINEAGE__EMIT_INTERVAL", "20ms");
    node.boot().await;
    told(&node, 2.0).await;
    for hash in &hashes {
        let way = graph(&node, &format!("dataset:penstock:content/{hash}"), &[]).await;
        assert_eq!(names(&way), [format!("content/{hash}"), format!("upload/{hash}")]);
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_before_a_crash_are_emitted_after_it_on_sqlite() {
    tells_after_a_crash(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_before_a_crash_are_emitted_after_it_on_postgres() {
    tells_after_a_crash(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shall_not_tell_writes_nothing_down() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_LINEAGE__EMIT", "false").start().await;
    let hash = node.put(b"quiet", "text/plain").await;
    let root = format!("dataset:penstock:content/{hash}");
    assert_eq!(ask(&node, "/v1/openlineage/lineage", &[("node", &root)]).await.status(), 404);
    let database = rusqlite::Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
    let waiting: i64 =
        database.query_row("SELECT count(*) FROM lineage_outbox", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(waiting, 0);
    node.finish().await;
}
