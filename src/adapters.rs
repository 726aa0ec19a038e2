//! Implementations of the ports, one folder per technology: SQLite and PostgreSQL for the ledger and the catalogue,
//! files and S3 for blobs, this process and Redis for shared state; [caches](cached) in front of data that is only
//! shown. [URLs](urls) are for servers that deliver instead of the node, [`bsv`] has the rules of the network for payments.
//!
//! A blob store implements `StoreMarks`, which includes the other ports of blobs. `src/wiring/` chooses the adapters by the
//! configuration: `storage.rs` the blob store, `database.rs` the database.

pub mod bsv;
pub mod cached;
pub mod files;
pub mod header_sources;
pub mod in_process;
pub(crate) mod leaf_list;
mod pause;
pub mod postgres;
pub mod redis;
pub mod s3;
mod schema;
pub mod sqlite;
mod store_mark;
pub mod urls;
pub mod usage_spool;
