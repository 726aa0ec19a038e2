//! The facets that a node keeps: the newest of each name, and of those the newest few.
//!
//! They are stored as text: as trees they would take many times the bytes counted when their event came in.
//!
//! Merging is commutative, associative and idempotent, so neither the order of events nor their repetition changes the
//! result. Of two facets with one name, that of the later event stays (at equal times, that of the event with the
//! greater hash). A facet cut off as too old never comes back, since times only grow.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::EventHash;

/// Facets that a node keeps. The specification names some thirty.
pub const FACETS_KEPT: usize = 64;

/// The bytes of an event's hash that decide between two facets of the same time.
const HASH_KEPT: usize = 16;

/// A facet and its origin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facet {
    /// Time of the event that carried it, in microseconds since 1970.
    pub at: i64,
    /// The beginning of that event's hash, in hex.
    pub by: String,
    pub is: Box<RawValue>,
}

/// The event that carries facets.
#[derive(Debug, Clone, Copy)]
pub struct FacetSource<'a> {
    pub hash: EventHash,
    /// Microseconds since 1970.
    pub at: i64,
    /// The run's id as written in the event, for events of runs.
    pub run: Option<&'a str>,
}

impl Facet {
    /// A facet as it is kept. One longer than `most` bytes of JSON is replaced by its producer, its length, and the
    /// event that holds all of it.
    pub fn new(by: &FacetSource<'_>, value: &Value, most: usize) -> Self {
        let hash = by.hash.to_string();
        let mut is = text(value);
        let bytes = is.get().len();
        if bytes > most {
            let [producer, schema] = ["_producer", "_schemaURL"].map(|member| &value[member]);
            let mut link = json!({
                "_producer": producer, "_schemaURL": schema, "_omittedBytes": bytes, "_eventHash": hash,
            });
            if let Some(run) = by.run {
                link["_runId"] = run.into();
            }
            is = text(&link);
        }
        Self { at: by.at, by: hash[..HASH_KEPT].to_owned(), is }
    }

    fn age(&self) -> (i64, &str) {
        (self.at, &self.by)
    }
}

fn text(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("the names of members are text")
}

impl PartialEq for Facet {
    fn eq(&self, other: &Self) -> bool {
        self.age() == other.age() && self.is.get() == other.is.get()
    }
}

/// The facets of a job or a dataset, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facets(BTreeMap<String, Facet>);

impl Facets {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Facet> {
        self.0.values_mut()
    }

    pub fn insert(&mut self, name: String, facet: Facet) {
        match self.0.entry(name) {
            Entry::Vacant(place) => {
                place.insert(facet);
            }
            Entry::Occupied(mut known) if known.get().age() < facet.age() => {
                known.insert(facet);
            }
            Entry::Occupied(_) => {}
        }
    }

    pub fn merge(&mut self, other: Self) {
        for (name, facet) in other.0 {
            self.insert(name, facet);
        }
        self.trim();
    }

    /// Keeps the newest [`FACETS_KEPT`].
    pub fn trim(&mut self) {
        if self.0.len() <= FACETS_KEPT {
            return;
        }
        let mut facets: Vec<_> = std::mem::take(&mut self.0).into_iter().collect();
        facets.sort_by(|(one, a), (other, b)| Reverse((a.age(), one)).cmp(&Reverse((b.age(), other))));
        facets.truncate(FACETS_KEPT);
        self.0 = facets.into_iter().collect();
    }

    /// The facets as clients see them: without those that an event deleted.
    pub fn shown(&self) -> BTreeMap<&str, Value> {
        let read = |facet: &Facet| serde_json::from_str(facet.is.get()).unwrap_or(Value::Null);
        let facets = self.0.iter().map(|(name, facet)| (name.as_str(), read(facet)));
        facets.filter(|(_, facet)| facet["_deleted"] != true).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 32 << 10;

    fn new(at: i64, by: u8, value: &Value) -> Facet {
        Facet::new(&FacetSource { hash: EventHash([by; 32]), at, run: None }, value, MOST)
    }

    fn facets() -> impl Strategy<Value = Facets> {
        let facet = (0..100_u8, 0..5_i64, 0..3_u8, 0..1000_u16);
        proptest::collection::vec(facet, 0..120).prop_map(|given| {
            let mut facets = Facets::default();
            for (name, at, by, value) in given {
                // The value plays no part: an event has only one value per facet.
                let _ = value;
                facets.insert(format!("f{name}"), new(at, by, &json!({ "v": [name, at, by] })));
            }
            facets.trim();
            facets
        })
    }

    fn merged(one: &Facets, other: &Facets) -> Facets {
        let mut merged = one.clone();
        merged.merge(other.clone());
        merged
    }

    proptest! {
        #[test]
        fn neither_order_nor_repetition_changes_what_is_kept(a in facets(), b in facets(), c in facets()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a);
        }
    }

    #[test]
    fn a_facet_too_long_to_keep_leaves_its_maker_its_length_and_where_it_is() {
        let value = json!({ "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "text": "x".repeat(100) });
        let bytes = value.to_string().len();
        let brought = |run, most| {
            let mut facets = Facets::default();
            facets
                .insert("long".into(), Facet::new(&FacetSource { hash: EventHash([7; 32]), at: 1, run }, &value, most));
            facets.shown()["long"].clone()
        };
        assert_eq!(brought(None, bytes), value, "it just fits");
        let mut link = json!({
            "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "_omittedBytes": bytes, "_eventHash": "07".repeat(32),
        });
        assert_eq!(brought(None, bytes - 1), link);
        link["_runId"] = "a-run".into();
        assert_eq!(brought(Some("a-run"), bytes - 1), link);
    }

    #[test]
    fn a_facet_is_held_and_written_as_the_text_that_it_is() {
        // As a tree each of these objects would take some hundred bytes.
        let value = json!(vec![json!({ "a": 0 }); 1000]);
        let mut facets = Facets::default();
        facets.insert("many".into(), new(7, 0xb, &value));
        assert_eq!(facets.0["many"].is.get(), value.to_string());
        let written = serde_json::to_string(&facets).expect("JSON");
        assert_eq!(written, format!("{{\"many\":{{\"at\":7,\"by\":\"0b0b0b0b0b0b0b0b\",\"is\":{value}}}}}"));
        assert_eq!(serde_json::from_str::<Facets>(&written).expect("facets"), facets);
    }

    #[test]
    fn a_deleted_facet_is_not_shown_and_stays_deleted() {
        let mut facets = Facets::default();
        facets.insert("schema".into(), new(2, 1, &json!({ "_deleted": true })));
        facets.insert("schema".into(), new(1, 2, &json!({ "fields": [] })));
        facets.insert("owner".into(), new(1, 2, &json!({ "name": "me" })));
        assert_eq!(facets.shown().into_keys().collect::<Vec<_>>(), ["owner"]);
    }
}
