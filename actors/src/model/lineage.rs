//! Lineage: jobs, runs and datasets, and the flow between them.

mod event;
mod facets;
mod name;
mod view;

pub use event::{EventHash, EventKind, LineageEvent, Mention, RunState};
pub use facets::{Bringer, FACETS_KEPT, Facet, Facets};
pub use name::{NamespaceKey, NodeKey, NodeKind, NodeName, words_of};
pub use view::{
    Direction, Graph, GraphNode, LineageEdge, LineageNode, NodeDetail, RunDetail, RunSummary, StoredEvent, Walk,
};
