//! Shared test code: the conformance suite of each port, ports in memory that fail by script, and clocks that tests move.
//!
//! A suite states what a port promises. Every adapter runs it unchanged, so that two adapters cannot drift apart. The
//! ports in memory serve the tests of the actors: they record their calls, and delay, fail or fence as a test says.

pub mod api_keys_suite;
pub mod blob_store_suite;
pub mod catalog_suite;
pub mod changes_suite;
pub mod client_keys_suite;
pub mod clock;
pub mod connection;
pub mod console_sessions_suite;
pub mod dice;
pub mod governance_suite;
pub mod header_store_suite;
pub mod identities_suite;
pub mod installations_suite;
pub mod ledger_suite;
pub mod lineage_suite;
pub mod lost_statements;
pub mod memory_blobs;
pub mod memory_cache;
pub mod memory_governance;
pub mod memory_headers;
pub mod memory_index;
pub mod memory_installations;
pub mod memory_lineage;
pub mod memory_payments;
pub mod memory_records;
pub mod memory_spool;
pub mod memory_state;
pub mod memory_time;
pub mod memory_uploads;
pub mod model_ledger;
pub mod model_search;
pub mod payments_suite;
pub mod rate_limits_suite;
pub mod resumable_uploads_suite;
pub mod script;
pub mod search_suite;
pub mod shared_cache_suite;
pub mod shared_state_suite;
pub mod storage_records_suite;
pub mod task_leases_suite;
pub mod timekeeper_suite;
pub mod url_signer_suite;
pub mod usage_spool_suite;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::ports::{RefillRequest, Want};

/// A request that is sent for the first time, with an id larger than those of all requests of this process.
pub fn asked(want: Want) -> RefillRequest {
    static LAST: AtomicI64 = AtomicI64::new(0);
    RefillRequest::first(LAST.fetch_add(1, Relaxed) + 1, want)
}
