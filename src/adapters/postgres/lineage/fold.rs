//! A batch of events as arrays: each event, namespace and node once, and references to them by position.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use jiff::Timestamp;
use penstock_actors::model::{EventHash, Facets, LineageEvent, NamespaceKey, NodeKey, NodeName};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::super::jsonb::facets_to_jsonb;

/// The arguments of `penstock_ingest_lineage`. Positions count from one, as in SQL.
#[derive(Debug, Default)]
pub(super) struct Folded<'a> {
    pub(super) namespace_keys: Vec<Uuid>,
    pub(super) namespaces: Vec<&'a str>,
    pub(super) times: Vec<Timestamp>,
    pub(super) hashes: Vec<&'a [u8]>,
    pub(super) event_namespaces: Vec<i32>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) states: Vec<Option<&'static str>>,
    pub(super) runs: Vec<Option<Uuid>>,
    pub(super) subjects: Vec<i32>,
    pub(super) bodies: Vec<&'a str>,
    pub(super) node_keys: Vec<Uuid>,
    pub(super) node_kinds: Vec<&'static str>,
    pub(super) node_namespaces: Vec<&'a str>,
    pub(super) node_names: Vec<&'a str>,
    pub(super) node_words: Vec<String>,
    pub(super) node_facets: Vec<Option<Json<Facets>>>,
    pub(super) mention_events: Vec<i32>,
    pub(super) mention_nodes: Vec<i32>,
    pub(super) edge_events: Vec<i32>,
    pub(super) edge_sources: Vec<i32>,
    pub(super) edge_targets: Vec<i32>,
    /// For each event of the batch, the position of its first occurrence in the arrays above, and whether it is that
    /// occurrence.
    pub(super) occurrences: Vec<(usize, bool)>,
}

impl<'a> Folded<'a> {
    pub(super) fn of(events: &'a [LineageEvent]) -> Self {
        let mut folded = Self::default();
        let mut seen: HashMap<EventHash, usize> = HashMap::with_capacity(events.len());
        let mut distinct: Vec<&LineageEvent> = Vec::with_capacity(events.len());
        for event in events {
            folded.occurrences.push(match seen.entry(event.hash) {
                Entry::Occupied(first) => (*first.get(), false),
                Entry::Vacant(place) => {
                    distinct.push(event);
                    (*place.insert(distinct.len() - 1), true)
                }
            });
        }
        let mut namespaces = BTreeMap::<NamespaceKey, (&str, i32)>::new();
        let mut nodes = BTreeMap::<NodeKey, (&NodeName, Facets, i32)>::new();
        for event in &distinct {
            let namespace = event.subject().name.namespace.as_str();
            namespaces.entry(NamespaceKey::of(namespace)).or_insert((namespace, 0));
            for mention in &event.mentions {
                let node = nodes.entry(mention.key).or_insert_with(|| (&mention.name, Facets::default(), 0));
                node.1.merge(mention.facets.clone());
            }
        }
        for (key, (namespace, place)) in &mut namespaces {
            folded.namespace_keys.push(Uuid::from_bytes(key.0));
            folded.namespaces.push(namespace);
            *place = sql_place(folded.namespaces.len());
        }
        for (key, (name, facets, place)) in &mut nodes {
            folded.add_node(*key, name, std::mem::take(facets));
            *place = sql_place(folded.node_keys.len());
        }
        for event in distinct {
            let namespace = namespaces.get(&NamespaceKey::of(&event.subject().name.namespace));
            folded.add_event(event, namespace.map_or(0, |(_, place)| *place), |key| {
                nodes.get(&key).map_or(0, |(_, _, place)| *place)
            });
        }
        folded
    }

    fn add_node(&mut self, key: NodeKey, name: &'a NodeName, facets: Facets) {
        self.node_keys.push(Uuid::from_bytes(key.0));
        self.node_kinds.push(name.kind.as_str());
        self.node_namespaces.push(&name.namespace);
        self.node_names.push(&name.name);
        self.node_words.push(name.words());
        self.node_facets.push((!facets.is_empty()).then(|| Json(facets_to_jsonb(facets))));
    }

    fn add_event(&mut self, event: &'a LineageEvent, namespace: i32, node: impl Fn(NodeKey) -> i32) {
        self.times.push(event.time);
        self.hashes.push(&event.hash.0);
        self.event_namespaces.push(namespace);
        self.kinds.push(event.kind.as_str());
        self.states.push(event.state.map(|state| state.as_str()));
        self.runs.push(event.run.map(|run| run.as_uuid()));
        self.subjects.push(node(event.subject().key));
        self.bodies.push(&event.body);
        let place = sql_place(self.times.len());
        for mention in &event.mentions {
            self.mention_events.push(place);
            self.mention_nodes.push(node(mention.key));
        }
        for &(source, target) in &event.edges {
            self.edge_events.push(place);
            self.edge_sources.push(node(event.mentions[source].key));
            self.edge_targets.push(node(event.mentions[target].key));
        }
    }
}

/// Batches are far below 2^31.
fn sql_place(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
