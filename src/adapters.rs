//! What implements the ports, by port: SQLite and PostgreSQL for the ledger and the catalogue, files for blobs, this
//! process for shared state.

pub mod files;
pub mod in_process;
pub mod postgres;
pub mod redis;
pub mod sqlite;
