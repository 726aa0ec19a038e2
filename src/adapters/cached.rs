//! The catalogue, the receipts, lineage and the governance policies through the caches, for handlers. Each is the port that it
//! stands before.
//!
//! Reads that are asked for often come from [`TieredCache`]; everything else passes through. A change invalidates what it
//! reaches after its commit and before its answer, so that whoever made it sees it with the next call, here at once and
//! elsewhere from the shared tier; what other instances have in memory follows by word of the change. A change that failed is
//! treated like one that was made: an error does not tell whether the database applied it.
//!
//! What decides about money never comes through here: quotas, windows, leases and prices at the time of a receipt are the
//! ledger's.
//!
//! [`TieredCache`]: penstock_actors::tiered_cache::TieredCache

mod catalog;
mod identities;
mod lineage;
mod lineage_upkeep;
mod policies;
mod receipts;
mod search;

pub use catalog::CachedCatalog;
pub use identities::CachedIdentities;
pub use lineage::CachedLineage;
pub use lineage_upkeep::CachedLineageUpkeep;
pub use policies::CachedPolicies;
pub use receipts::CachedReceipts;
pub use search::CachedSearch;
