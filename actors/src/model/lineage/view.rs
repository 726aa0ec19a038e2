//! Lineage as queries return it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EventHash, Facets, NodeKey, NodeName, RunState};
use crate::ids::RunId;

/// A job or a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageNode {
    pub name: NodeName,
    /// The times of the earliest and the latest event that named it.
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Events that named it, including those that have left the window.
    pub events: u64,
}

/// The flow from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEdge {
    pub source: NodeKey,
    pub target: NodeKey,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub events: u64,
}

/// The direction of a walk from its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the sources of the root.
    Up,
    /// Towards the nodes made from the root.
    Down,
    /// Both, but not to other nodes made from the same sources.
    Both,
}

impl Direction {
    pub const fn goes_up(self) -> bool {
        !matches!(self, Self::Down)
    }

    pub const fn goes_down(self) -> bool {
        !matches!(self, Self::Up)
    }
}

/// A walk through the graph, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphWalk {
    pub root: NodeKey,
    pub direction: Direction,
    /// Edges from the root to the farthest node.
    pub depth: u32,
    /// Nodes in the answer, the root among them.
    pub nodes: u32,
    /// Edges in the answer, and so the work of a walk.
    pub edges: u32,
    /// The walk stops after this time, wherever it is.
    pub budget: Duration,
}

/// A node that a walk reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    pub node: LineageNode,
    /// Edges on the shortest path from the root.
    pub depth: u32,
}

/// The result of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Nearest first; the root is the first.
    pub nodes: Vec<GraphNode>,
    /// All edges that the walk took, cycles closed: both ends are among the nodes.
    pub edges: Vec<LineageEdge>,
    /// Whether a bound other than the depth cut the walk short.
    pub truncated: bool,
    /// Whether that bound was the budget: another walk might get farther.
    pub late: bool,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    pub run_id: RunId,
    /// `None` until an event reports one.
    pub state: Option<RunState>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub events: u64,
}

/// A node with its neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeDetail {
    pub node: LineageNode,
    pub facets: Facets,
    /// The nodes that flow into it, at most [`NEIGHBOURS`](crate::ports::NEIGHBOURS), and those that it flows into.
    pub sources: Vec<LineageNode>,
    pub targets: Vec<LineageNode>,
    /// A job's runs, latest start first, at most [`RUNS`](crate::ports::RUNS).
    pub runs: Vec<RunSummary>,
}

/// An event of the window, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub hash: EventHash,
    pub time: Timestamp,
    pub state: Option<RunState>,
    pub received_at: Timestamp,
    /// `None` where the answer would become too long.
    pub body: Option<String>,
}

/// A run with its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDetail {
    pub run: RunSummary,
    /// `None` when the job is no longer known.
    pub job: Option<NodeName>,
    /// Newest first, at most [`EVENTS`](crate::ports::EVENTS).
    pub history: Vec<StoredEvent>,
}
