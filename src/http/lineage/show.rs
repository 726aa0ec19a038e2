//! Lineage as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use penstock_actors::model::{LineageNode, NodeDetail, NodeKind, NodeName, RunDetail, RunSummary};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// A job or a dataset; in a walk, with its distance from the root.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeDocument<'a> {
    #[serde(serialize_with = "as_text")]
    id: &'a NodeName,
    kind: NodeKind,
    namespace: &'a str,
    name: &'a str,
    first_seen: Timestamp,
    last_seen: Timestamp,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
}

impl<'a> NodeDocument<'a> {
    pub(super) fn of(node: &'a LineageNode, depth: Option<u32>) -> Self {
        Self {
            id: &node.name,
            kind: node.name.kind,
            namespace: &node.name.namespace,
            name: &node.name.name,
            first_seen: node.first_seen,
            last_seen: node.last_seen,
            events: node.events,
            depth,
        }
    }

    pub(super) const fn name(&self) -> &'a NodeName {
        self.id
    }
}

/// In the form `KIND:NAMESPACE:NAME`.
pub(super) fn as_text<S: Serializer>(name: &NodeName, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(name)
}

pub(super) fn nodes(nodes: &[LineageNode]) -> Value {
    nodes.iter().map(|node| json!(NodeDocument::of(node, None))).collect()
}

/// A job or a dataset with its neighbours.
pub(super) fn detail(detail: &NodeDetail) -> Value {
    let mut answer = json!(NodeDocument::of(&detail.node, None));
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

/// A run: its events in the window, in full if asked for, and their merged facts. Of facets with one name, the newest.
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
