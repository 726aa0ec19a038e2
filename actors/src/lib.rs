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

pub mod cache;
pub mod clock;
pub mod content;
pub mod flow;
pub mod governance;
pub mod ids;
pub mod lineage;
pub mod model;
pub mod node;
mod other_lives;
pub mod policy_evaluator;
pub mod ports;
pub mod quota;
pub mod rate_limit;
pub mod search;
pub mod storage;
#[cfg(feature = "testkit")]
pub mod testkit;
