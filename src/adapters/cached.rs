//! The catalogue, the receipts, lineage and the governance policies through the caches, for handlers. Each wrapper
//! implements the port that it wraps.
//!
//! Frequent reads come from [`TieredCache`]; every other call passes through. A change invalidates the entries that it
//! affects after its commit and before its answer, so that the client that made it sees it with the next call, at once
//! on this instance and through the shared tier on others; entries in the memory of other instances are invalidated by
//! a message. A failed change is treated like a successful one: an error does not tell whether the database applied the
//! change.
//!
//! Decisions about money never use these caches: quotas, windows, leases and prices at the time of a receipt are read
//! by the ledger.
//!
//! [`TieredCache`]: penstock_actors::cache::TieredCache

mod assets;
mod governance;
mod identities;
mod lineage;
mod lineage_graph_upkeep;
mod receipts;
mod search;

pub use assets::CachedAssets;
pub use governance::CachedGovernancePolicies;
pub use identities::CachedIdentities;
pub use lineage::CachedLineage;
pub use lineage_graph_upkeep::CachedLineageGraphUpkeep;
pub use receipts::CachedReceipts;
pub use search::CachedSearch;
