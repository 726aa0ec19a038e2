//! The actors of a Penstock node, and the ports they speak to.
//!
//! A stream passes through [`quota::cache`], which says whether it may start, [`content::reader`], which verifies what it reads, and
//! [`content::delivery`], which paces, counts and settles it over the [`Connection`](ports::Connection) to its client. Where another
//! server delivers the bytes, [`content::delegation`] charges for them. An upload passes through [`content::upload`]. A usage row
//! goes from the delivery through [`quota::usage_batcher`] to the ledger. Bytes never pass through a mailbox.
//!
//! # Floors
//!
//! A folder uses folders on lower floors only. `tests/layout.rs` reads this list, and fails when a folder uses one that is not below
//! it, or when modules form a circle. The first file of each folder is its tour.
//!
//! 1. [`node`]: the node put together; the janitor, and the follower of changes.
//! 2. [`storage`], [`payments`]: stored copies: verified, repaired, moved, guarded; receipts for payments on chain, and the chain.
//! 3. [`content`]: bytes in and out: uploads, verified reads, deliveries.
//! 4. [`quota`]: receipts, leases and windows in memory; usage on its way to the ledger; this node's epoch.
//! 5. [`lineage`], [`cache`], [`rate_limit`], [`policy_evaluator`]: each needs nothing of the others.
//! 6. [`clock`], [`supervision`]: time, and whether the database's can be relied on; actors that are built again when they die.
//! 7. [`ports`], [`mailbox`]: what the node asks of the outside; how long messages wait for their actor.
//! 8. [`flow`], [`governance`], [`search`]: arithmetic: permits and paces, policies, search text.
//! 9. [`model`]: the words of the domain as plain data.
//! 10. [`ids`], [`task_span`]: names of things, and of the work that runs.
//!
//! Beside them stands the `testkit`, for tests: in-memory ports, and a conformance suite for each port.
//!
//! # Actors
//!
//! | actor | owns | speaks to |
//! |---|---|---|
//! | [`quota::cache`] | receipts, windows and leases in memory; says whether a stream may start | ledger, shared state, usage batcher |
//! | [`quota::usage_batcher`] | usage rows until they are durably in the ledger | ledger |
//! | [`quota::heartbeat`] | the heartbeat and the epoch of this node in the ledger | ledger, quota cache |
//! | [`content::read_ahead`] | one open source and its read-ahead; one actor per large stream | blob store |
//! | [`node::change_follower`] | the position up to which this node has read the log of changes | log of changes |
//! | [`node::janitor`] | the removal of expired data | ledger, catalogue, blob store |
//! | [`lineage::ingest`] | lineage events until they are durable | lineage store |
//! | [`lineage::outbox_relay`] | the node's own lineage events, from the outbox | lineage outbox and ingest |
//! | [`lineage::pruner`] | the sliding window over lineage | lineage upkeep |
//! | [`payments::header_keeper`] | nothing: it fills the chain of headers | source and store of headers |
//! | [`storage::maintenance`] | verification, moves and ages of stored content | storage records, blob store |
//!
//! The arithmetic stands alone in [`quota::book`], [`quota::usage_batch`], [`flow::token_bucket`] and [`model`]. [`flow::admission`]
//! bounds every queue, and nothing else does.
//!
//! [`search`] parses the text of the catalogue's search box and highlights the matches.
//!
//! This crate contains no HTTP, no SQL and no metrics exporter: it reaches the outside through [`ports`].
//!
//! `docs/glossary.md` defines each term.

pub mod cache;
pub mod clock;
pub mod content;
pub mod flow;
pub mod governance;
pub mod ids;
pub mod lineage;
pub mod mailbox;
pub mod model;
pub mod node;
pub mod payments;
pub mod policy_evaluator;
pub mod ports;
pub mod quota;
pub mod rate_limit;
pub mod search;
pub mod storage;
pub mod supervision;
pub mod task_span;
#[cfg(feature = "testkit")]
pub mod testkit;
