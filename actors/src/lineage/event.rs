//! Reads an OpenLineage event from JSON into the form that lineage keeps. Arithmetic only: no I/O, no clock of its own.
//!
//! The schema says what an event must have; callers check it first. This module decides what a node is willing to keep:
//! how many datasets and facets, how long a name, and which times.
//!
//! An event is identified by the hash of its canonical form: members sorted by name, no white space, numbers as written
//! (`1E5` and `1e5` become `1e+5`), so that a parser's rounding never makes two events equal. A client that formats an
//! event differently therefore sends the same event.

use std::{fmt::Write as _, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{
    clock::to_micros,
    model::{
        EventHash, EventKind, Facet, FacetSource, Facets, LineageEvent, MentionedNode, NodeKind, NodeName, RunState,
        json_path::push_member, moment::moment,
    },
};

/// Faults reported for one event: enough to correct it, and not a document of its own.
pub const FAULTS: usize = 50;

/// Bytes of a reported path, and of a reported detail. Members may have names of any length.
const TOLD_BYTES: usize = 512;

/// A fault that keeps an event from being stored: where it is, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventViolation {
    /// As in `inputs[3].name`.
    pub path: String,
    pub detail: String,
}

impl EventViolation {
    /// Texts that are too long are cut.
    pub fn new(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: cut(path.into()), detail: cut(detail.into()) }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TOLD_BYTES {
        text.truncate(text.floor_char_boundary(TOLD_BYTES));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// The limits on the events that a node keeps.
#[derive(Debug, Clone, Copy)]
pub struct EventBounds {
    /// Inputs and outputs of an event.
    pub datasets: usize,
    /// Facets of an event, wherever they are.
    pub facets: usize,
    /// Bytes of a facet that is kept with its job or dataset. A longer facet is kept in its event alone.
    pub facet_bytes: usize,
    /// Bytes of a namespace.
    pub namespace: usize,
    /// Bytes of a name.
    pub name: usize,
    /// How long events are kept, in whole UTC days. Older events are not taken.
    pub window: Duration,
    /// How far ahead of this clock the clock of a producer may be.
    pub ahead: Duration,
}

impl EventBounds {
    /// The beginning of the window at `now`: the first moment of a UTC day.
    pub fn window_start(&self, now: Timestamp) -> Timestamp {
        let oldest = now.checked_sub(self.window).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH);
        start_of(day_of(oldest))
    }
}

/// Reads an event that fits the schema.
///
/// # Errors
/// The bounds that it breaks, up to [`FAULTS`] of them.
pub fn read(
    kind: EventKind,
    value: &Value,
    body: String,
    bounds: &EventBounds,
    now: Timestamp,
) -> Result<LineageEvent, Vec<EventViolation>> {
    let (hash, run) = (hash_of(value), value["run"]["runId"].as_str());
    let mut reader =
        Reader { bounds, hash, run, time: Timestamp::UNIX_EPOCH, facets: 0, mentions: Vec::new(), faults: Vec::new() };
    reader.time = reader.time_of(&value["eventTime"], now);
    let subject = match kind {
        EventKind::Run | EventKind::Job => reader.mention(NodeKind::Job, &value["job"], "job"),
        EventKind::Dataset => reader.mention(NodeKind::Dataset, &value["dataset"], "dataset"),
    };
    let mut edges = Vec::new();
    if kind != EventKind::Dataset {
        reader.count_facets(&value["run"]["facets"]);
        for dataset in reader.datasets(&value["inputs"], "inputs") {
            edges.push((dataset, subject));
        }
        for dataset in reader.datasets(&value["outputs"], "outputs") {
            edges.push((subject, dataset));
        }
        edges.sort_unstable();
        edges.dedup();
    }
    let run = match kind {
        EventKind::Run => match value["run"]["runId"].as_str().unwrap_or_default().to_ascii_lowercase().parse() {
            Ok(id) => Some(id),
            Err(_) => {
                reader.fault("run.runId", "must be a UUID with hyphens");
                None
            }
        },
        _ => None,
    };
    if reader.facets > bounds.facets {
        reader.fault("", format!("has {} facets, of which a node keeps at most {}", reader.facets, bounds.facets));
    }
    reader.refuse_nul(value, &mut String::new());
    let Reader { time, mentions, faults, .. } = reader;
    if !faults.is_empty() {
        return Err(faults);
    }
    let state = value["eventType"].as_str().and_then(RunState::parse).filter(|_| kind == EventKind::Run);
    Ok(LineageEvent { hash, kind, state, time, run, mentions, edges, body })
}

struct Reader<'a> {
    bounds: &'a EventBounds,
    hash: EventHash,
    /// The run that the event belongs to.
    run: Option<&'a str>,
    time: Timestamp,
    facets: usize,
    mentions: Vec<MentionedNode>,
    faults: Vec<EventViolation>,
}

impl Reader<'_> {
    fn fault(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        if self.faults.len() < FAULTS {
            self.faults.push(EventViolation::new(path, detail));
        }
    }

    fn time_of(&mut self, value: &Value, now: Timestamp) -> Timestamp {
        let Some(time) = moment(value.as_str().unwrap_or_default()) else {
            self.fault("eventTime", "must be a time with its offset, such as 2026-11-23T16:37:06Z");
            return Timestamp::UNIX_EPOCH;
        };
        let time = to_micros(time);
        let start = self.bounds.window_start(now);
        if time < start {
            self.fault("eventTime", format!("must not be before {start}: events are kept from there on"));
        }
        let latest = now.checked_add(self.bounds.ahead).unwrap_or(Timestamp::MAX);
        if time > latest {
            self.fault("eventTime", format!("must not be after {latest}: it lies in the future"));
        }
        time
    }

    /// The indices of the datasets of a list, each once.
    fn datasets(&mut self, value: &Value, member: &str) -> Vec<usize> {
        let Some(datasets) = value.as_array() else { return Vec::new() };
        if datasets.len() > self.bounds.datasets {
            let most = self.bounds.datasets;
            self.fault(member, format!("has {} datasets, of which a node keeps at most {most}", datasets.len()));
            return Vec::new();
        }
        let places = datasets.iter().enumerate().map(|(number, dataset)| {
            for facets in ["inputFacets", "outputFacets"] {
                self.count_facets(&dataset[facets]);
            }
            self.mention(NodeKind::Dataset, dataset, &format!("{member}[{number}]"))
        });
        places.collect()
    }

    /// The index of a job or a dataset among those that the event names.
    fn mention(&mut self, kind: NodeKind, value: &Value, path: &str) -> usize {
        let namespace = self.name_part(&value["namespace"], self.bounds.namespace, path, "namespace");
        let name = self.name_part(&value["name"], self.bounds.name, path, "name");
        self.count_facets(&value["facets"]);
        let name = NodeName { kind, namespace, name };
        let key = name.key();
        let facets = self.facets_of(&value["facets"]);
        if let Some(place) = self.mentions.iter().position(|known| known.key == key) {
            self.mentions[place].facets.merge(facets);
            return place;
        }
        self.mentions.push(MentionedNode { name, key, facets });
        self.mentions.len() - 1
    }

    fn name_part(&mut self, value: &Value, most: usize, path: &str, part: &str) -> String {
        let text = value.as_str().unwrap_or_default();
        let path = || format!("{path}.{part}");
        if text.is_empty() || text.len() > most {
            self.fault(path(), format!("must have 1 to {most} bytes"));
        } else if text.chars().any(char::is_control) {
            self.fault(path(), "must not have control characters");
        }
        text.to_owned()
    }

    fn count_facets(&mut self, value: &Value) {
        self.facets += value.as_object().map_or(0, Map::len);
    }

    fn facets_of(&self, value: &Value) -> Facets {
        let mut facets = Facets::default();
        let Some(members) = value.as_object().filter(|members| members.len() <= self.bounds.facets) else {
            return facets;
        };
        let by = FacetSource { hash: self.hash, at: self.time.as_microsecond(), run: self.run };
        for (name, value) in members {
            facets.insert(name.clone(), Facet::new(&by, value, self.bounds.facet_bytes));
        }
        facets.trim();
        facets
    }

    /// Databases cannot store NUL in a text. Only the first is reported; the parser bounds the depth.
    fn refuse_nul(&mut self, value: &Value, path: &mut String) -> bool {
        let found = match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => {
                return items.iter().enumerate().any(|(number, item)| {
                    let length = path.len();
                    let _ = write!(path, "[{number}]");
                    let found = self.refuse_nul(item, path);
                    path.truncate(length);
                    found
                });
            }
            Value::Object(members) => {
                return members.iter().any(|(name, member)| {
                    let length = path.len();
                    push_member(path, name);
                    let found = if name.contains('\0') {
                        self.fault(path.clone(), "must not have NUL characters");
                        true
                    } else {
                        self.refuse_nul(member, path)
                    };
                    path.truncate(length);
                    found
                });
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        };
        if found {
            self.fault(path.clone(), "must not have NUL characters");
        }
        found
    }
}

/// The hash of the canonical form.
pub fn hash_of(value: &Value) -> EventHash {
    let mut text = String::new();
    canonical(value, &mut text);
    EventHash(Sha256::digest(text).into())
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // A map has an order of its own, which depends on how it was built.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (place, (name, member)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                // Writing to a String cannot fail.
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                canonical(member, out);
            }
            out.push('}');
        }
        plain => {
            let _ = write!(out, "{plain}");
        }
    }
}

/// The UTC day of a moment.
pub fn day_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The first moment of a UTC day.
pub fn start_of(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |start| start.timestamp())
}

#[cfg(test)]
mod tests;
