//! The node's own OpenLineage events: an entry of the outbox in, events out. Arithmetic only.
//!
//! ```text
//! upload/HASH -> content/HASH -> publish/VERSION -> asset/VERSION -> sell/VERSION
//!                     |                          -> dataset/ID, where the asset names one
//!                     -> stream/HASH
//! ```
//! Each content and each asset has its own jobs, so that the lineage of one never leads to another through a shared
//! job. A receipt is a run of its asset's `sell` job. The receipt's id gives the right to stream and must stay secret,
//! so the run is named by a hash of it. Streams are endless: they are one run a day per content, reported as RUNNING
//! once for each batch of usage.
//!
//! An entry always makes the same events, so an entry that is emitted twice is kept once.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    lineage::event::{self, EventBounds, EventViolation, day_of},
    model::{EventKind, LineageEvent},
    ports::{OutboxEntry, OutboxKind},
};

/// The definition of a run event in the schema.
pub const RUN_EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";

/// The definition of the standard facet that says what kind of job it is.
const JOB_TYPE: &str = "https://openlineage.io/spec/facets/2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet";

/// The sender of the events.
#[derive(Debug, Clone)]
pub struct NodeEventNames {
    /// The namespace of the node's jobs and datasets.
    pub namespace: String,
    /// The `producer` of the events, a URI.
    pub producer: String,
}

/// Why an entry makes no events.
#[derive(Debug, thiserror::Error)]
pub enum EventBuildError {
    #[error("the entry lacks {0}")]
    Lacks(&'static str),
    #[error("{}", .0.iter().map(|fault| format!("{}: {}", fault.path, fault.detail)).collect::<Vec<_>>().join("; "))]
    Faults(Vec<EventViolation>),
}

/// The events of an entry.
///
/// # Errors
/// When the entry is malformed, or is too old for the window.
pub fn events(
    entry: &OutboxEntry,
    names: &NodeEventNames,
    bounds: &EventBounds,
    now: Timestamp,
) -> Result<Vec<LineageEvent>, EventBuildError> {
    let teller = EventBuilder { entry, names };
    let values = match entry.kind {
        OutboxKind::Upload => vec![teller.upload()?],
        OutboxKind::Asset => vec![teller.asset()?],
        OutboxKind::Receipt => vec![teller.receipt()?],
        OutboxKind::Streams => {
            let contents = entry.detail.as_array().ok_or(EventBuildError::Lacks("contents"))?;
            contents.iter().map(|content| teller.streams(content)).collect::<Result<_, _>>()?
        }
    };
    let read = |value: Value| {
        let body = value.to_string();
        event::read(EventKind::Run, &value, body, bounds, now).map_err(EventBuildError::Faults)
    };
    values.into_iter().map(read).collect()
}

struct EventBuilder<'a> {
    entry: &'a OutboxEntry,
    names: &'a NodeEventNames,
}

impl EventBuilder<'_> {
    fn upload(&self) -> Result<Value, EventBuildError> {
        let hash = text(&self.entry.detail, "content")?;
        let facet = json!({ "sizeBytes": self.entry.detail["size"], "mediaType": self.entry.detail["mediaType"] });
        let content = self.dataset(&format!("content/{hash}"), "facets", &self.facet("content", &facet));
        let run = self.run_of(&["upload", hash, &self.entry.happened_at.to_string()]);
        Ok(self.event(run, &format!("upload/{hash}"), "UPLOAD", &json!([]), &json!([content])))
    }

    fn asset(&self) -> Result<Value, EventBuildError> {
        let (hash, version) = (text(&self.entry.detail, "content")?, id(&self.entry.detail, "version")?);
        let facet = self.facet("asset", &json!({ "name": self.entry.detail["name"] }));
        let mut outputs = vec![self.dataset(&format!("asset/{version}"), "facets", &facet)];
        if let Some(dataset) = self.entry.detail["dataset"].as_str() {
            outputs.push(self.plain_dataset(&format!("dataset/{dataset}")));
        }
        let run = self.run_of(&["publish", &version.to_string()]);
        let inputs = json!([self.plain_dataset(&format!("content/{hash}"))]);
        Ok(self.event(run, &format!("publish/{version}"), "PUBLISH", &inputs, &json!(outputs)))
    }

    fn receipt(&self) -> Result<Value, EventBuildError> {
        let (receipt, version) = (id(&self.entry.detail, "receipt")?, id(&self.entry.detail, "version")?);
        let run = self.run_of(&["sell", &receipt.to_string()]);
        let inputs = json!([self.plain_dataset(&format!("asset/{version}"))]);
        let mut event = self.event(run, &format!("sell/{version}"), "SELL", &inputs, &json!([]));
        event["run"]["facets"] = self.facet("receipt", &json!({ "quotaTier": self.entry.detail["tier"] }));
        Ok(event)
    }

    /// One content of a batch of usage.
    fn streams(&self, content: &Value) -> Result<Value, EventBuildError> {
        let hash = text(content, "content")?;
        let (first, last) = (time(content, "first")?, time(content, "last")?);
        let facet = json!({
            "streams": content["streams"],
            "bytesSent": content["bytes"],
            "firstStartedAt": first.to_string(),
            "lastFinishedAt": last.to_string(),
            // Two batches may be equal in everything else.
            "batch": self.entry.id,
        });
        let input = self.dataset(&format!("content/{hash}"), "inputFacets", &self.facet("streams", &facet));
        let run = self.run_of(&["stream", hash, &day_of(last).to_string()]);
        let mut event = self.event(run, &format!("stream/{hash}"), "STREAM", &json!([input]), &json!([]));
        event["eventType"] = "RUNNING".into();
        event["eventTime"] = last.to_string().into();
        event["job"]["facets"]["jobType"]["processingType"] = "STREAMING".into();
        Ok(event)
    }

    fn event(&self, run: Uuid, job: &str, job_type: &str, inputs: &Value, outputs: &Value) -> Value {
        let NodeEventNames { namespace, producer } = self.names;
        json!({
            "eventType": "COMPLETE",
            "eventTime": self.entry.happened_at.to_string(),
            "producer": producer,
            "schemaURL": RUN_EVENT,
            "run": { "runId": run },
            "job": {
                "namespace": namespace,
                "name": job,
                "facets": { "jobType": {
                    "_producer": producer,
                    "_schemaURL": JOB_TYPE,
                    "processingType": "BATCH",
                    "integration": "PENSTOCK",
                    "jobType": job_type,
                } },
            },
            "inputs": inputs,
            "outputs": outputs,
        })
    }

    fn plain_dataset(&self, name: &str) -> Value {
        json!({ "namespace": self.names.namespace, "name": name })
    }

    fn dataset(&self, name: &str, member: &str, facets: &Value) -> Value {
        json!({ "namespace": self.names.namespace, "name": name, member: facets })
    }

    /// A facet of the node's own, under its prefix.
    fn facet(&self, name: &str, members: &Value) -> Value {
        let mut facet = Map::new();
        facet.insert("_producer".into(), self.names.producer.as_str().into());
        facet.insert("_schemaURL".into(), format!("urn:penstock:facet:{name}:1-0-0").into());
        facet.extend(members.as_object().cloned().unwrap_or_default());
        json!({ format!("penstock_{name}"): facet })
    }

    /// The run that these words name: a UUID of version 8 made of their hash, which reveals nothing about them.
    fn run_of(&self, words: &[&str]) -> Uuid {
        let mut hash = Sha256::new();
        for word in words.iter().copied().chain([self.names.namespace.as_str()]) {
            hash.update((word.len() as u64).to_le_bytes());
            hash.update(word);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

fn text<'a>(value: &'a Value, member: &'static str) -> Result<&'a str, EventBuildError> {
    value[member].as_str().ok_or(EventBuildError::Lacks(member))
}

fn id(value: &Value, member: &'static str) -> Result<Uuid, EventBuildError> {
    Uuid::try_parse(text(value, member)?).map_err(|_| EventBuildError::Lacks(member))
}

fn time(value: &Value, member: &'static str) -> Result<Timestamp, EventBuildError> {
    let micros = value[member].as_i64().ok_or(EventBuildError::Lacks(member))?;
    Timestamp::from_microsecond(micros).map_err(|_| EventBuildError::Lacks(member))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";
    const ID: &str = "67e5504410b1426f9247bb680e5fe0c8";

    fn events_of(kind: OutboxKind, detail: Value) -> Result<Vec<LineageEvent>, EventBuildError> {
        let now: Timestamp = NOW.parse().expect("a time");
        let entry = OutboxEntry { id: 7, kind, happened_at: now, detail };
        let names = NodeEventNames { namespace: "penstock".into(), producer: "urn:penstock:node".into() };
        let bounds = EventBounds {
            datasets: 10,
            facets: 10,
            facet_bytes: 1000,
            namespace: 100,
            name: 500,
            window: Duration::from_secs(30 * 86_400),
            ahead: Duration::from_secs(60),
        };
        events(&entry, &names, &bounds, now)
    }

    fn names(event: &LineageEvent) -> Vec<String> {
        event.mentions.iter().map(|mention| mention.name.name.clone()).collect()
    }

    #[test]
    fn each_entry_reports_its_part_of_the_graph() {
        let hash = "ab".repeat(32);
        let upload = &events_of(OutboxKind::Upload, json!({ "content": hash, "size": 7, "mediaType": "text/plain" }))
            .expect("events")[0];
        assert_eq!(
            (names(upload), &upload.edges[..]),
            (vec![format!("upload/{hash}"), format!("content/{hash}")], &[(0, 1)][..])
        );
        let detail = json!({ "version": ID, "content": hash, "name": "Tides", "dataset": "sea" });
        let asset = &events_of(OutboxKind::Asset, detail).expect("events")[0];
        let version = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let expected =
            [format!("publish/{version}"), format!("content/{hash}"), format!("asset/{version}"), "dataset/sea".into()];
        assert_eq!((names(asset), &asset.edges[..]), (expected.into(), &[(0, 2), (0, 3), (1, 0)][..]));
        let receipt = &events_of(OutboxKind::Receipt, json!({ "receipt": ID, "version": ID, "tier": "gold" }))
            .expect("events")[0];
        assert_eq!(names(receipt), [format!("sell/{version}"), format!("asset/{version}")]);
    }

    #[test]
    fn a_receipt_is_not_to_be_learnt_from_its_run() {
        let secret = "11111111-2222-4333-8444-555555555555";
        let event = &events_of(OutboxKind::Receipt, json!({ "receipt": secret, "version": ID, "tier": "gold" }))
            .expect("events")[0];
        assert!(!event.body.contains(secret) && !event.body.contains(&secret.replace('-', "")));
        let run = event.run.expect("a run").as_uuid();
        assert_eq!((run.get_version_num(), run.get_variant()), (8, uuid::Variant::RFC4122));
    }

    #[test]
    fn streams_of_a_day_are_one_run_and_every_batch_is_emitted() {
        let content = |hash: &str, last: &str| {
            let micros = last.parse::<Timestamp>().expect("a time").as_microsecond();
            json!({ "content": hash.repeat(32), "streams": 3, "bytes": 9, "first": micros - 1, "last": micros })
        };
        let day = "2026-11-23T01:00:00Z";
        let events =
            events_of(OutboxKind::Streams, json!([content("ab", day), content("cd", day), content("ab", NOW)]))
                .expect("events");
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].run, events[2].run);
        assert_ne!(events[0].run, events[1].run);
        assert!(events.iter().all(|event| event.state == Some(crate::model::RunState::Running)));
        let yesterday =
            &events_of(OutboxKind::Streams, json!([content("ab", "2026-11-22T23:59:59Z")])).expect("events")[0];
        assert_ne!(yesterday.run, events[0].run);
        let again = events_of(OutboxKind::Streams, json!([content("ab", day)])).expect("events");
        assert_eq!(again[0].hash, events[0].hash, "the same entry makes the same events");
    }

    #[test]
    fn an_unknown_answer_says_why() {
        assert!(matches!(events_of(OutboxKind::Upload, json!({})), Err(EventBuildError::Lacks("content"))));
        assert!(matches!(events_of(OutboxKind::Streams, json!({})), Err(EventBuildError::Lacks("contents"))));
        let old = json!([{ "content": "ab", "streams": 1, "bytes": 1, "first": 1, "last": 1 }]);
        let error = events_of(OutboxKind::Streams, old).expect_err("it is of 1970");
        assert!(error.to_string().starts_with("eventTime: must not be before 2026-10-24"), "{error}");
    }
}
