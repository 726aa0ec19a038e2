//! Lineage.

use utoipa::ToSchema;

use super::super::scalars::{Id, Json, Moment, Object};

/// An event that is durable.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct KeptEvent {
    #[schema(example = "bb9d7827140b6ac32e12b82be656dbd188da65be1091e85d52f10dad2340a2d7")]
    pub event_hash: String,
    /// `created` or `known`.
    #[schema(example = "created")]
    pub outcome: String,
}

/// The result of a batch.
#[derive(ToSchema)]
pub struct BatchReport {
    /// `success` or `partial_success`.
    #[schema(example = "success")]
    pub status: String,
    pub summary: BatchSummary,
    pub failed_events: Vec<FailedEvent>,
    pub results: Vec<EventResult>,
}

/// How many events of a batch were kept.
#[derive(ToSchema)]
pub struct BatchSummary {
    pub received: u64,
    pub successful: u64,
    pub failed: u64,
    pub retriable: u64,
    pub non_retriable: u64,
}

/// An event that was not kept.
#[derive(ToSchema)]
pub struct FailedEvent {
    pub index: u64,
    pub reason: String,
    pub retriable: bool,
}

/// The result of one event.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventResult {
    pub index: u64,
    /// `created`, `known` or `invalid`.
    #[schema(example = "created")]
    pub outcome: String,
    pub event_hash: Option<String>,
    pub errors: Option<Vec<super::super::Fault>>,
}

/// The part of the graph that a walk has seen.
#[derive(ToSchema)]
pub struct LineageGraph {
    #[schema(example = "job:etl:daily.report")]
    pub node: String,
    pub depth: u32,
    /// `up`, `down` or `both`.
    #[schema(example = "both")]
    pub direction: String,
    pub nodes: Option<Vec<LineageNode>>,
    pub edges: Option<Vec<LineageEdge>>,
    /// With `format=cyto`, in place of `nodes` and `edges`.
    pub elements: Option<CytoElements>,
    pub stats: GraphStats,
}

/// A job or a dataset.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct LineageNode {
    #[schema(example = "job:etl:daily.report")]
    pub id: String,
    /// `job` or `dataset`.
    #[schema(example = "job")]
    pub kind: String,
    #[schema(example = "etl")]
    pub namespace: String,
    #[schema(example = "daily.report")]
    pub name: String,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub events: u64,
    /// The distance from the root of the walk.
    pub depth: Option<u32>,
}

/// The flow from one node to another.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct LineageEdge {
    pub source: String,
    pub target: String,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub events: u64,
}

/// The graph in the form of Cytoscape.js.
#[derive(ToSchema)]
pub struct CytoElements {
    pub nodes: Vec<Object>,
    pub edges: Vec<Object>,
}

/// The size of a graph.
#[derive(ToSchema)]
pub struct GraphStats {
    pub nodes: u64,
    pub edges: u64,
    pub truncated: bool,
}

/// A job or a dataset with its neighbours. A job has `inputs`, `outputs` and `latestRuns`, a dataset `producedBy` and `consumedBy`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct LineageNodeDetail {
    #[schema(example = "job:etl:daily.report")]
    pub id: String,
    #[schema(example = "job")]
    pub kind: String,
    #[schema(example = "etl")]
    pub namespace: String,
    #[schema(example = "daily.report")]
    pub name: String,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub events: u64,
    pub facets: Object,
    pub inputs: Option<Vec<LineageNode>>,
    pub outputs: Option<Vec<LineageNode>>,
    pub latest_runs: Option<Vec<RunSummary>>,
    pub produced_by: Option<Vec<LineageNode>>,
    pub consumed_by: Option<Vec<LineageNode>>,
}

/// A run of a job.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RunSummary {
    pub run_id: Id,
    #[schema(example = "COMPLETE")]
    pub state: Option<String>,
    pub started_at: Option<Moment>,
    pub ended_at: Option<Moment>,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub events: u64,
}

/// A run with its history.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Run {
    pub run_id: Id,
    #[schema(example = "COMPLETE")]
    pub state: Option<String>,
    pub started_at: Option<Moment>,
    pub ended_at: Option<Moment>,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub events: u64,
    pub job: Option<RunJob>,
    pub facets: Object,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub history: Vec<RunEvent>,
}

/// The job of a run.
#[derive(ToSchema)]
pub struct RunJob {
    #[schema(example = "job:etl:daily.report")]
    pub id: String,
    pub namespace: String,
    pub name: String,
}

/// An event in the history of a run.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RunEvent {
    #[schema(example = "COMPLETE")]
    pub event_type: Option<String>,
    pub event_time: Moment,
    pub received_at: Moment,
    pub event_hash: String,
    /// The event as it arrived, with `include=events`.
    #[schema(required = false)]
    pub event: Json,
}

/// The jobs and datasets that a search has found.
#[derive(ToSchema)]
pub struct LineageFound {
    pub items: Vec<LineageNode>,
}
