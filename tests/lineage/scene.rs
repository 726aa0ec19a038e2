//! What the tests of lineage share: events, and ways to ask.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::node::{TestNode, expect};

pub(crate) const RUN_EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";

/// A run event of now.
pub(crate) fn run_event(state: &str, run: Uuid, job: &str, inputs: &[&str], outputs: &[&str]) -> Value {
    let named = |name: &&str| json!({ "namespace": "db", "name": name });
    json!({
        "eventType": state,
        "eventTime": jiff::Timestamp::now().to_string(),
        "producer": "https://example.org/etl",
        "schemaURL": RUN_EVENT,
        "run": { "runId": run },
        "job": { "namespace": "etl", "name": job },
        "inputs": inputs.iter().map(named).collect::<Vec<_>>(),
        "outputs": outputs.iter().map(named).collect::<Vec<_>>(),
    })
}

pub(crate) fn facet(is: impl Into<Value>) -> Value {
    json!({ "_producer": "https://example.org/etl", "_schemaURL": "https://example.org/facet.json", "is": is.into() })
}

pub(crate) async fn post(node: &TestNode, event: &Value) -> Response {
    node.admin(Method::POST, "/api/v1/lineage").json(event).send().await.unwrap()
}

/// Posts an event that is new.
pub(crate) async fn created(node: &TestNode, event: &Value) -> Value {
    let answer = expect(post(node, event).await, &[201]).await;
    assert_eq!(answer["outcome"], "created");
    answer
}

pub(crate) async fn post_batch(node: &TestNode, events: &[Value]) -> Value {
    let batch = node.admin(Method::POST, "/api/v1/lineage/batch").json(events);
    expect(batch.send().await.unwrap(), &[200]).await
}

/// Asks with a query, encoded as any client encodes one.
pub(crate) async fn ask(node: &TestNode, path: &str, query: &[(&str, &str)]) -> Response {
    let url = reqwest::Url::parse_with_params(&node.url(path), query).unwrap();
    node.client.get(url).send().await.unwrap()
}

/// The answer to a question about the graph.
pub(crate) async fn graph(node: &TestNode, root: &str, more: &[(&str, &str)]) -> Value {
    let query: Vec<_> = [("node", root)].iter().chain(more).copied().collect();
    expect(ask(node, "/v1/openlineage/lineage", &query).await, &[200]).await
}

/// The names of the nodes of a graph, sorted.
pub(crate) fn names(graph: &Value) -> Vec<&str> {
    let mut names: Vec<_> =
        graph["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// The paths of the violations in a problem document.
pub(crate) fn paths(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap()).collect()
}
