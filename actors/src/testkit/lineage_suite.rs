//! The conformance suite of the lineage ports: the promises of every adapter, whatever its database.
//!
//! A promise makes its own namespaces under fresh random names, so most may share a database with other tests. The promises
//! about the outbox and about days act on all rows: nothing else may emit, prune or settle in the database meanwhile.

mod events;
mod graph;
mod outbox;
mod pruning;
mod views;
mod walk;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::catalog_suite::CatalogStore;
use crate::{
    clock::to_micros,
    lineage::event::{self, EventBounds},
    model::{EventKind, LineageEvent, NodeName},
    ports::{
        Changes, EventOutcome, Ledger, LineageGraphUpkeep, LineageOutbox, LineageStore, LineageUpkeep, Receipts,
        TaskLeases,
    },
};

/// An adapter with lineage, and with the ledger and the catalogue that write its outbox.
pub trait LineageBackend:
    LineageStore
    + LineageOutbox
    + LineageUpkeep
    + LineageGraphUpkeep
    + TaskLeases
    + CatalogStore
    + Receipts
    + Ledger
    + Changes
{
}

impl<
    S: LineageStore
        + LineageOutbox
        + LineageUpkeep
        + LineageGraphUpkeep
        + TaskLeases
        + CatalogStore
        + Receipts
        + Ledger
        + Changes,
> LineageBackend for S
{
}

/// The adapter under test.
type Store = Arc<dyn LineageBackend>;

/// Runs every promise. The store's database is migrated, has no lineage, and belongs to the suite while it runs.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl LineageBackend>) {
    let store: Store = store;
    Box::pin(events::run(&store)).await;
    Box::pin(graph::run(&store)).await;
    Box::pin(views::run(&store)).await;
    Box::pin(outbox::run(&store)).await;
    for seed in walk::SEEDS {
        Box::pin(walk::neither_order_nor_repetition_nor_batches_change_what_comes_out(&store, seed)).await;
    }
    Box::pin(pruning::run(&store)).await;
}

/// The time of the suite: its start, with the precision of a database.
fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

fn at(base: Timestamp, seconds: i64) -> Timestamp {
    base.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time of our time")
}

/// A namespace that occurs nowhere else, with every character that a name may have.
fn namespace() -> String {
    format!("postgres://Höst:5432/{}%", Uuid::new_v4().simple())
}

/// Events in one namespace.
struct Scene {
    namespace: String,
    base: Timestamp,
}

impl Scene {
    fn new() -> Self {
        Self { namespace: namespace(), base: at(now(), -3600) }
    }

    fn job(&self, name: &str) -> NodeName {
        NodeName::job(&self.namespace, name)
    }

    fn dataset(&self, name: &str) -> NodeName {
        NodeName::dataset(&self.namespace, name)
    }

    /// A run event of a job that reads and writes these datasets.
    fn run(&self, state: &str, seconds: i64, run: Uuid, job: &str, inputs: &[&str], outputs: &[&str]) -> LineageEvent {
        self.event(EventKind::Run, &self.run_value(state, seconds, run, job, inputs, outputs))
    }

    fn run_value(&self, state: &str, seconds: i64, run: Uuid, job: &str, inputs: &[&str], outputs: &[&str]) -> Value {
        let named = |name: &&str| json!({ "namespace": self.namespace, "name": name });
        json!({
            "eventType": state,
            "eventTime": at(self.base, seconds).to_string(),
            "producer": "urn:penstock:suite",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": { "runId": run.to_string() },
            "job": { "namespace": self.namespace, "name": job },
            "inputs": inputs.iter().map(named).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(named).collect::<Vec<_>>(),
        })
    }

    fn event(&self, kind: EventKind, value: &Value) -> LineageEvent {
        let body = value.to_string();
        event::read(kind, value, body, &bounds(), now()).expect("an event within the bounds")
    }
}

fn bounds() -> EventBounds {
    EventBounds {
        datasets: 10_000,
        facets: 1000,
        facet_bytes: 256 << 10,
        namespace: 1024,
        name: 2048,
        window: Duration::from_secs(3650 * 86_400),
        ahead: Duration::from_secs(86_400),
    }
}

async fn ingest(store: &Store, events: &[LineageEvent]) -> Vec<EventOutcome> {
    store.ingest(events, now()).await.expect("the batch is kept").kept
}

/// The names of an answer, sorted.
fn names<'a>(nodes: impl IntoIterator<Item = &'a crate::model::LineageNode>) -> Vec<String> {
    let mut names: Vec<String> = nodes.into_iter().map(|node| node.name.name.clone()).collect();
    names.sort();
    names
}
