//! An event as far as lineage reads it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Facets, NodeKey, NodeName};
use crate::ids::RunId;

/// SHA-256 of the canonical form of an event: what it is known by.
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

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A run of a job: how it goes, what it reads and writes.
    Run,
    /// A job as it is designed.
    Job,
    /// A dataset as it is.
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

/// What an event says of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunState {
    Start,
    Running,
    Complete,
    Abort,
    Fail,
    /// Something else than a change of state.
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

    /// Whether a run in this state has ended. The end stands against whatever else is told of a run: events of hosts whose
    /// clocks differ come in any order.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Complete | Self::Abort | Self::Fail)
    }

    /// What is told of a run at `at`, in the order in which it wins: the greater one is the run's state. `None` where an
    /// event does not tell a state.
    pub fn rank(self, at: Timestamp) -> Option<(bool, Timestamp, &'static str)> {
        (self != Self::Other).then(|| (self.is_end(), at, self.as_str()))
    }
}

/// A job or dataset that an event names, with the facets that it brings.
#[derive(Debug, Clone, PartialEq)]
pub struct Mention {
    pub name: NodeName,
    pub key: NodeKey,
    pub facets: Facets,
}

/// An event that may be kept: it fits the schema, and its values the bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct LineageEvent {
    pub hash: EventHash,
    pub kind: EventKind,
    pub state: Option<RunState>,
    pub time: Timestamp,
    pub run: Option<RunId>,
    /// The jobs and datasets that it names, each once. The first is what the event is about; the window counts it to that
    /// one's namespace.
    pub mentions: Vec<Mention>,
    /// The flow that it tells of, each edge once: places in `mentions`, source and target.
    pub edges: Vec<(usize, usize)>,
    /// The text that was sent.
    pub body: String,
}

impl LineageEvent {
    /// What the event is about: a job or, in a dataset event, a dataset.
    pub fn subject(&self) -> &Mention {
        &self.mentions[0]
    }
}
