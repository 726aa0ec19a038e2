//! What tests share: the conformance suite of each port, and clocks that tests move.
//!
//! A suite states what a port promises. Every adapter runs it unchanged, so that two adapters cannot drift apart.

pub mod blob_store_suite;
pub mod catalog_suite;
pub mod clock;
pub mod ledger_suite;
pub mod shared_state_suite;
