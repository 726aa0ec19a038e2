//! Lineage: events in a sliding window, and the graph that is derived from them.
//!
//! Three traits by who calls them: [`LineageStore`] from the ingest actor and handlers, [`LineageOutbox`] from the emitter,
//! [`LineageUpkeep`] from the pruner. One adapter implements all three.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use serde_json::Value;
use uuid::Uuid;

use super::PortResult;
use crate::{
    ids::RunId,
    model::{Graph, LineageEvent, LineageNode, NamespaceKey, NodeDetail, NodeKey, RunDetail, Walk},
};

/// Nodes on either side that a [`NodeDetail`] tells of; the graph has all.
pub const NEIGHBOURS: u32 = 100;

/// Runs that a [`NodeDetail`] tells of.
pub const RUNS: u32 = 20;

/// Events that a [`RunDetail`] tells of.
pub const EVENTS: u32 = 100;

/// Bytes of the bodies in a [`RunDetail`]; the newest that fit are there.
pub const BODY_BYTES: u64 = 4 << 20;

/// Nodes that search looks at: it gives the ones seen last out of these, and words that fit more nodes are too common to
/// find any of them.
pub const SEARCHED: u32 = 1000;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    New,
    /// It was there already.
    Known,
    /// Its namespace has more events than the window holds, and those of its time have left.
    Left,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ingested {
    /// Of each event, in their order.
    pub kept: Vec<Kept>,
    /// Whether the graph has nodes or edges that it had not. The log of changes then says so.
    pub grew: bool,
}

/// Events in, and the graph out.
#[async_trait]
pub trait LineageStore: Send + Sync + 'static {
    /// Keeps the events that are new and derives the graph from those, in one transaction. Neither
    /// the order of events nor their repetition, within a batch or across batches, changes what comes out.
    async fn ingest(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested>;

    /// Of these nodes, those that are known.
    async fn nodes(&self, keys: &[NodeKey]) -> PortResult<Vec<LineageNode>>;

    /// A node with what stands next to it.
    async fn node(&self, key: NodeKey) -> PortResult<Option<NodeDetail>>;

    /// Walks the graph; `None` when the root is not known.
    async fn graph(&self, walk: &Walk) -> PortResult<Option<Arc<Graph>>>;

    /// A run with its events.
    async fn run(&self, id: RunId) -> PortResult<Option<RunDetail>>;

    /// Nodes whose names have words that begin with all of these, the last seen first. Words are as
    /// [`words_of`](crate::model::words_of) makes them.
    async fn search(&self, words: &[String], limit: u32) -> PortResult<Vec<LineageNode>>;
}

/// What the ledger has to tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    Upload,
    Asset,
    Receipt,
    /// A batch of usage.
    Streams,
}

impl Told {
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
        Self::ALL.into_iter().find(|told| told.as_str() == text)
    }
}

/// Something that happened and is still to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    pub id: i64,
    pub told: Told,
    pub happened_at: Timestamp,
    /// As the migration that made the outbox says.
    pub detail: Value,
}

/// What the ledger and the catalogue tell of themselves, written in the transactions that it tells of.
#[async_trait]
pub trait LineageOutbox: Send + Sync + 'static {
    /// Whether anything is told, for all instances on this database.
    async fn set_telling(&self, enabled: bool) -> PortResult<()>;

    /// Up to `limit` of the oldest entries that nobody is busy with. They are this caller's for `ttl`, and then anybody's.
    async fn claim(&self, limit: u32, ttl: Duration) -> PortResult<Vec<OutboxEntry>>;

    /// Removes what has been told.
    async fn told(&self, ids: &[i64]) -> PortResult<()>;

    /// Removes up to `limit` entries older than `before`; how many.
    async fn prune_outbox(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}

/// What the window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowState {
    pub events: u64,
    /// Events above what their namespaces may have.
    pub excess: u64,
    pub oldest_day: Option<Date>,
}

/// Pruning in bounded steps, oldest first. A step takes only what nobody else holds, and is refused as `Fenced` when the
/// lease is not held any more.
#[async_trait]
pub trait LineageUpkeep: Send + Sync + 'static {
    /// Makes what events of these days will need (partitions, where the database has them); how many were made.
    async fn prepare_days(&self, days: &[Date]) -> PortResult<u64>;

    /// Takes the lease of the pruner, or keeps it, for `ttl` by the database's own clock. Its token, or `None` while
    /// somebody else has it.
    async fn lease_pruning(&self, holder: Uuid, ttl: Duration) -> PortResult<Option<i64>>;

    /// Gives the lease back.
    async fn release_pruning(&self, token: i64) -> PortResult<()>;

    /// Removes events of days before `day`: up to `limit`, or a whole day where the database can drop one. How many, perhaps none
    /// of a day that had none; `None` when no such day is left.
    async fn drop_days(&self, token: i64, day: Date, limit: u32) -> PortResult<Option<u64>>;

    /// Up to `limit` namespaces with more than `most` events, and how many are too many; the fullest first.
    async fn crowded(&self, most: u64, limit: u32) -> PortResult<Vec<(NamespaceKey, u64)>>;

    /// Removes up to `limit` of a namespace's oldest events, with the runs of which nothing is left; how many events.
    async fn trim(&self, token: i64, namespace: NamespaceKey, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` runs that were last seen before `day`; how many.
    async fn prune_runs(&self, token: i64, day: Date, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` edges that were last seen before `day`; how many.
    async fn prune_edges(&self, token: i64, day: Date, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` jobs and datasets that were last seen before `day` and have no edge; how many.
    async fn prune_nodes(&self, token: i64, day: Date, limit: u32) -> PortResult<u64>;

    /// Forgets up to `limit` namespaces that have no event, and whose window has not moved since `day`; how many.
    async fn prune_namespaces(&self, token: i64, day: Date, limit: u32) -> PortResult<u64>;

    /// What the window holds, where a namespace may have `most` events.
    async fn window(&self, most: u64) -> PortResult<WindowState>;
}
