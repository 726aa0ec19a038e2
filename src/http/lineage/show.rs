//! Lineage as JSON.

use std::collections::{BTreeMap, HashMap};

use penstock_actors::model::{
    Direction, Graph, LineageNode, NodeDetail, NodeKey, NodeKind, NodeName, RunDetail, RunSummary,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// Nodes and edges.
    Simple,
    /// The elements of Cytoscape.js.
    Cyto,
}

pub(super) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Both => "both",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    id: String,
    kind: NodeKind,
    namespace: &'a str,
    name: &'a str,
    first_seen: String,
    last_seen: String,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
}

impl<'a> Node<'a> {
    fn of(node: &'a LineageNode, depth: Option<u32>) -> Self {
        Self {
            id: node.name.to_string(),
            kind: node.name.kind,
            namespace: &node.name.namespace,
            name: &node.name.name,
            first_seen: node.first_seen.to_string(),
            last_seen: node.last_seen.to_string(),
            events: node.events,
            depth,
        }
    }
}

pub(super) fn nodes(nodes: &[LineageNode]) -> Value {
    nodes.iter().map(|node| json!(Node::of(node, None))).collect()
}

/// The answer to a walk.
pub(super) fn graph(root: &NodeName, depth: u32, way: Direction, format: Format, graph: &Graph) -> Value {
    let mut answer = Map::new();
    answer.insert("node".into(), root.to_string().into());
    answer.insert("depth".into(), depth.into());
    answer.insert("direction".into(), direction(way).into());
    match format {
        Format::Simple => simple(graph, &mut answer),
        Format::Cyto => cyto(graph, &mut answer),
    }
    let stats = json!({ "nodes": graph.nodes.len(), "edges": graph.edges.len(), "truncated": graph.truncated });
    answer.insert("stats".into(), stats);
    answer.into()
}

fn ids(graph: &Graph) -> HashMap<NodeKey, String> {
    graph.nodes.iter().map(|node| (node.node.name.key(), node.node.name.to_string())).collect()
}

fn simple(graph: &Graph, answer: &mut Map<String, Value>) {
    let ids = ids(graph);
    let nodes: Value = graph.nodes.iter().map(|node| json!(Node::of(&node.node, Some(node.depth)))).collect();
    let edges: Value = graph
        .edges
        .iter()
        .map(|edge| {
            json!({
                "source": ids.get(&edge.source),
                "target": ids.get(&edge.target),
                "firstSeen": edge.first_seen.to_string(),
                "lastSeen": edge.last_seen.to_string(),
                "events": edge.events,
            })
        })
        .collect();
    answer.insert("nodes".into(), nodes);
    answer.insert("edges".into(), edges);
}

fn cyto(graph: &Graph, answer: &mut Map<String, Value>) {
    let ids = ids(graph);
    let nodes: Value = graph
        .nodes
        .iter()
        .map(|node| {
            let mut data = json!(Node::of(&node.node, Some(node.depth)));
            data["label"] = node.node.name.name.as_str().into();
            json!({ "data": data, "classes": node.node.name.kind })
        })
        .collect();
    let edges: Value = graph
        .edges
        .iter()
        .enumerate()
        .map(|(number, edge)| {
            let (source, target) = (ids.get(&edge.source), ids.get(&edge.target));
            json!({ "data": { "id": format!("e{number}"), "source": source, "target": target, "events": edge.events } })
        })
        .collect();
    answer.insert("elements".into(), json!({ "nodes": nodes, "edges": edges }));
}

/// A job or a dataset with what stands next to it.
pub(super) fn detail(detail: &NodeDetail) -> Value {
    let mut answer = json!(Node::of(&detail.node, None));
    answer["facets"] = json!(detail.facets.shown());
    let (sources, targets) = (nodes(&detail.sources), nodes(&detail.targets));
    match detail.node.name.kind {
        NodeKind::Job => {
            answer["inputs"] = sources;
            answer["outputs"] = targets;
            answer["latestRuns"] = detail.runs.iter().map(summary).collect();
        }
        NodeKind::Dataset => {
            answer["producedBy"] = sources;
            answer["consumedBy"] = targets;
        }
    }
    answer
}

fn summary(run: &RunSummary) -> Value {
    json!({
        "runId": run.run_id,
        "state": run.state,
        "startedAt": run.started_at.map(|time| time.to_string()),
        "endedAt": run.ended_at.map(|time| time.to_string()),
        "firstSeen": run.first_seen.to_string(),
        "lastSeen": run.last_seen.to_string(),
        "events": run.events,
    })
}

/// A run: its events in the window, as they came if that is asked for, and what they say together. Of facets the newest of
/// each name.
pub(super) fn run(detail: &RunDetail, with_events: bool) -> Value {
    let mut answer = summary(&detail.run);
    answer["job"] = match &detail.job {
        Some(job) => json!({ "id": job.to_string(), "namespace": job.namespace, "name": job.name }),
        None => Value::Null,
    };
    let parsed = |body: &String| serde_json::from_str::<Value>(body).ok();
    let bodies: Vec<Option<Value>> = detail.history.iter().map(|event| event.body.as_ref().and_then(parsed)).collect();
    let mut facets = BTreeMap::new();
    for (name, facet) in bodies.iter().flatten().filter_map(|body| body["run"]["facets"].as_object()).flatten() {
        facets.entry(name).or_insert(facet);
    }
    answer["facets"] = json!(facets);
    for member in ["inputs", "outputs"] {
        let mut ids: Vec<String> = bodies
            .iter()
            .flatten()
            .filter_map(|body| body[member].as_array())
            .flatten()
            .filter_map(|dataset| Some(NodeName::dataset(dataset["namespace"].as_str()?, dataset["name"].as_str()?)))
            .map(|name| name.to_string())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        answer[member] = json!(ids);
    }
    let history = detail.history.iter().zip(bodies).map(|(event, body)| {
        let mut shown = json!({
            "eventType": event.state,
            "eventTime": event.time.to_string(),
            "receivedAt": event.received_at.to_string(),
            "eventHash": event.hash.to_string(),
        });
        if with_events {
            shown["event"] = json!(body);
        }
        shown
    });
    answer["history"] = history.collect();
    answer
}
