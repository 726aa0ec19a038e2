//! The parts of an event that lineage reads.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Facets, NodeKey, NodeName};
use crate::ids::RunId;

/// SHA-256 of the canonical form of an event: its identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventHash(pub [u8; 32]);

impl fmt::Display for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A run of a job: its progress, inputs and outputs.
    Run,
    /// A job as designed, without a run.
    Job,
    /// A dataset alone.
    Dataset,
}

impl EventKind {
    pub const ALL: [Self; 3] = [Self::Run, Self::Job, Self::Dataset];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Job => "job",
            Self::Dataset => "dataset",
        }
    }
}

/// The run state that an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunState {
    Start,
    Running,
    Complete,
    Abort,
    Fail,
    /// Anything but a change of state.
    Other,
}

impl RunState {
    pub const ALL: [Self; 6] = [Self::Start, Self::Running, Self::Complete, Self::Abort, Self::Fail, Self::Other];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Running => "RUNNING",
            Self::Complete => "COMPLETE",
            Self::Abort => "ABORT",
            Self::Fail => "FAIL",
            Self::Other => "OTHER",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether a run in this state has ended. An end wins over every other state of a run, since events of hosts with
    /// different clocks arrive in any order.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Complete | Self::Abort | Self::Fail)
    }

    /// The rank of a state reported at `at`: the greatest rank is the run's state. `None` where an event reports no state.
    pub fn rank(self, at: Timestamp) -> Option<(bool, Timestamp, &'static str)> {
        (self != Self::Other).then(|| (self.is_end(), at, self.as_str()))
    }
}

/// A job or dataset that an event names, with the facets in the event.
#[derive(Debug, Clone, PartialEq)]
pub struct MentionedNode {
    pub name: NodeName,
    pub key: NodeKey,
    pub facets: Facets,
}

/// An event that may be kept: it fits the schema, and its values are within the bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct LineageEvent {
    pub hash: EventHash,
    pub kind: EventKind,
    pub state: Option<RunState>,
    pub time: Timestamp,
    pub run: Option<RunId>,
    /// The jobs and datasets that it names, each once. The first is the event's subject; the window counts the event to
    /// that one's namespace.
    pub mentions: Vec<MentionedNode>,
    /// The flow that it reports, each edge once: indices in `mentions`, source and target.
    pub edges: Vec<(usize, usize)>,
    /// The text as it was sent.
    pub body: String,
}

impl LineageEvent {
    /// The subject of the event: a job or, in a dataset event, a dataset.
    pub fn subject(&self) -> &MentionedNode {
        &self.mentions[0]
    }
}
