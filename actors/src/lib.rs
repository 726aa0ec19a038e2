//! The actors of a Penstock node, and the ports they speak to.
//!
//! | actor | owns | speaks to |
//! |---|---|---|
//! | [`quota_cache`] | receipts, windows and leases in memory; says whether a stream may start | ledger, shared state, usage batcher |
//! | [`usage_batcher`] | usage rows until they are durably in the ledger | ledger |
//! | [`lease_keeper`] | the heartbeat and the epoch of this node in the ledger | ledger, quota cache |
//! | [`storage_stream`] | one open source and its read-ahead; one actor per large stream | blob store |
//! | [`change_follower`] | the position up to which this node has read the log of changes | log of changes |
//! | [`janitor`] | the removal of expired data | ledger, catalogue, blob store |
//! | [`lineage_ingest`] | lineage events until they are durable | lineage store |
//! | [`lineage_emitter`] | the node's own lineage events, from the outbox | lineage outbox and ingest |
//! | [`lineage_pruner`] | the sliding window over lineage | lineage upkeep |
//! | [`storage_keeper`] | verification, moves and ages of stored content | storage records, blob store |
//!
//! A stream passes through [`quota_cache`] (acquire), [`content_store`] (verified reads) and [`delivery`] (pace, count,
//! settle) over the [`connection`] to its client, or through [`delegation`] where another server delivers the bytes. An
//! upload passes through [`ingest`]. Bytes never pass through a mailbox. The arithmetic stands alone in [`quota_book`],
//! [`usage_batch`], [`pacer`] and [`model`]. [`admission`] bounds every queue, and nothing else does.
//!
//! [`search`] parses the text of the catalogue's search box and highlights the matches.
//!
//! This crate contains no HTTP, no SQL and no metrics exporter: it reaches the outside through [`ports`].

pub mod admission;
pub mod change_follower;
pub mod clock;
pub mod clock_watch;
pub mod connection;
pub mod content_store;
pub mod delegation;
pub mod delivery;
pub mod governance;
pub mod governor;
pub mod held_credit;
pub mod ids;
pub mod ingest;
pub mod janitor;
pub mod json_path;
pub mod last_uses;
pub mod lease_keeper;
pub mod ledger_clock;
pub mod lineage;
pub mod lineage_emitter;
pub mod lineage_event;
pub mod lineage_ingest;
pub mod lineage_own;
pub mod lineage_pruner;
pub mod lineage_stride;
pub mod model;
pub mod moment;
pub mod mover;
pub mod node_life;
mod other_lives;
pub mod pacer;
pub mod ports;
pub mod quarantine;
pub mod quarantine_sync;
pub mod quota_book;
pub mod quota_cache;
pub mod rate_counters;
pub mod rate_limiter;
pub mod rate_window;
pub mod refill_queue;
pub mod refusal;
pub mod revocation;
pub mod search;
pub mod storage_keeper;
pub mod storage_stream;
pub mod store_guard;
pub mod system;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tiered_cache;
pub mod top_uses;
pub mod usage_batch;
pub mod usage_batcher;
pub mod verifier;
