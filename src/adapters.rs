//! What implements the ports, by port: SQLite and PostgreSQL for the ledger and the catalogue, files and S3 for blobs, this
//! process for shared state; [caches](cached) before what is only shown. Beside them stands what gives [URLs](urls) to those who
//! deliver in the node's place.

pub mod cached;
pub mod files;
pub mod in_process;
mod leaf_list;
pub mod postgres;
pub mod redis;
pub mod s3;
mod schema;
pub mod sqlite;
mod store_mark;
pub mod urls;
