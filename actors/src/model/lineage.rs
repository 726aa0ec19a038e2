//! Lineage: jobs, runs and datasets, and the flow between them.

mod event;
mod facets;
mod name;
mod view;

pub use event::{EventHash, EventKind, LineageEvent, MentionedNode, RunState};
pub use facets::{FACETS_KEPT, Facet, FacetSource, Facets};
pub use name::{NamespaceKey, NodeKey, NodeKind, NodeName, words_of};
pub use view::{
    Direction, Graph, GraphNode, GraphWalk, LineageEdge, LineageNode, NodeDetail, RunDetail, RunSummary, StoredEvent,
};
