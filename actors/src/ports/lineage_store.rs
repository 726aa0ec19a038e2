//! Lineage: events in a sliding window, and the graph derived from them.
//!
//! Traits for each kind of caller: [`LineageStore`] for the ingest actor and handlers, [`LineageOutbox`] for the emitter,
//! [`LineageUpkeep`] and [`LineageGraphUpkeep`] for the pruner. One adapter implements all of them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use serde_json::Value;

use super::{PortResult, TaskLease};
use crate::{
    ids::RunId,
    model::{Graph, GraphWalk, LineageEvent, LineageNode, NamespaceKey, NodeDetail, NodeKey, RunDetail},
};

/// Nodes on either side in a [`NodeDetail`]; the graph has all of them.
pub const NEIGHBOURS: u32 = 100;

/// Runs in a [`NodeDetail`].
pub const RUNS: u32 = 20;

/// Events in a [`RunDetail`].
pub const EVENTS: u32 = 100;

/// Bytes of the bodies in a [`RunDetail`]; the newest that fit are included.
pub const BODY_BYTES: u64 = 4 << 20;

/// Nodes that search considers. It returns those of them that were seen last; words that match more nodes are too
/// common to find any of them.
pub const SEARCHED: u32 = 1000;

/// The outcome of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventOutcome {
    New,
    /// It was already stored.
    Known,
    /// Its namespace has more events than the window holds, and this event is older than those that are kept.
    Left,
}

/// The outcome of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ingested {
    /// The outcome of each event, in their order.
    pub kept: Vec<EventOutcome>,
    /// Whether the graph has new nodes or edges. The log of changes then says so.
    pub grew: bool,
}

/// Takes events in, and answers queries about the graph.
#[async_trait]
pub trait LineageStore: Send + Sync + 'static {
    /// Stores the new events and updates the graph from them, in one transaction. Neither the order of events nor their
    /// repetition, within a batch or across batches, changes the result.
    async fn ingest(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested>;

    /// Those of these nodes that exist.
    async fn nodes(&self, keys: &[NodeKey]) -> PortResult<Vec<LineageNode>>;

    /// A node with its neighbours.
    async fn node(&self, key: NodeKey) -> PortResult<Option<NodeDetail>>;

    /// Walks the graph; `None` when the root does not exist.
    async fn graph(&self, walk: &GraphWalk) -> PortResult<Option<Arc<Graph>>>;

    /// A run with its events.
    async fn run(&self, id: RunId) -> PortResult<Option<RunDetail>>;

    /// Nodes whose names have words that begin with all of these, last seen first. Words are as
    /// [`words_of`](crate::model::words_of) makes them.
    async fn search(&self, words: &[String], limit: u32) -> PortResult<Vec<LineageNode>>;
}

/// The kinds of outbox entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutboxKind {
    Upload,
    Asset,
    Receipt,
    /// A batch of usage.
    Streams,
}

impl OutboxKind {
    pub const ALL: [Self; 4] = [Self::Upload, Self::Asset, Self::Receipt, Self::Streams];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Asset => "asset",
            Self::Receipt => "receipt",
            Self::Streams => "streams",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// An event of the ledger or the catalogue that has not been emitted yet.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    pub id: i64,
    pub kind: OutboxKind,
    pub happened_at: Timestamp,
    /// Its form is defined in the migration that made the outbox.
    pub detail: Value,
}

/// The outbox: events of the ledger and the catalogue, written in the transactions that they describe.
#[async_trait]
pub trait LineageOutbox: Send + Sync + 'static {
    /// Turns the node's own events on or off, for all instances on this database.
    async fn set_emission(&self, enabled: bool) -> PortResult<()>;

    /// Up to `limit` of the oldest entries that no caller has claimed. They are this caller's for `ttl`, and then free again.
    async fn claim(&self, limit: u32, ttl: Duration) -> PortResult<Vec<OutboxEntry>>;

    /// Removes entries that have been emitted.
    async fn mark_emitted(&self, ids: &[i64]) -> PortResult<()>;

    /// Removes up to `limit` entries older than `before`; returns how many.
    async fn prune_outbox(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}

/// The contents of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowState {
    pub events: u64,
    /// Events beyond the limit of their namespaces.
    pub excess: u64,
    pub oldest_day: Option<Date>,
}

/// Pruning in bounded steps, oldest first. A step skips rows locked by others, and is refused as `Fenced` when the
/// lease is no longer held.
#[async_trait]
pub trait LineageUpkeep: Send + Sync + 'static {
    /// Makes the partitions of these days, where the database has partitions; returns how many were made.
    async fn prepare_days(&self, days: &[Date]) -> PortResult<u64>;

    /// Removes events of days before `day`: up to `limit`, or a whole day where the database can drop one. Returns how
    /// many, which is zero for an empty day; `None` when no such day is left.
    async fn drop_days(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<Option<u64>>;

    /// Up to `limit` namespaces with more than `most` events, and the excess of each; fullest first.
    async fn oversized_namespaces(&self, most: u64, limit: u32) -> PortResult<Vec<(NamespaceKey, u64)>>;

    /// Removes up to `limit` of a namespace's oldest events, and runs left without events; returns how many events.
    async fn trim(&self, lease: TaskLease, namespace: NamespaceKey, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` runs that were last seen before `day`; returns how many.
    async fn prune_runs(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64>;

    /// Forgets up to `limit` namespaces that have no event, and whose window has not moved since `day`; returns how many.
    async fn prune_namespaces(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64>;

    /// The contents of the window, where a namespace may have `most` events.
    async fn window(&self, most: u64) -> PortResult<WindowState>;
}

/// Pruning of the graph, in the same steps. Walks may be cached elsewhere, so the log of changes names what was removed.
#[async_trait]
pub trait LineageGraphUpkeep: Send + Sync + 'static {
    /// Removes up to `limit` edges that were last seen before `day`; returns how many.
    async fn prune_edges(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` jobs and datasets that were last seen before `day` and have no edge; returns how many.
    async fn prune_nodes(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<u64>;
}
