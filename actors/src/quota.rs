//! Quota: whether a stream may start, what it may spend, and what it has spent.
//!
//! [`cache`] answers before each stream, from [`book`], which is arithmetic; what the book lacks is fetched from the ledger in the
//! order that [`refill_queue`] keeps. [`usage_batcher`] brings what was spent to the ledger, gathered by [`usage_batch`]. Until it is
//! there, [`spooled_row`] keeps a note of it that outlives the process, and [`replay`] settles what an earlier process left.
//! [`heartbeat`] keeps this node's epoch alive in the ledger, as [`node_epoch`] and [`held_credit`] know it, and ends one that was
//! fenced when [`epoch_work`] has none of it left; `other_epochs` observes the heartbeats of other nodes. [`refusal`] says why a
//! stream is not started, and [`revocation`] ends those that run on a receipt which lost its right.
//!
//! Handlers and [`content`](crate::content) call the cache's handle. **Bound.** Each question to a shard and each usage row carries
//! a permit.

pub mod book;
pub mod cache;
pub mod epoch_work;
pub mod heartbeat;
pub mod held_credit;
pub mod node_epoch;
mod other_epochs;
pub mod refill_queue;
pub mod refusal;
pub mod replay;
pub mod revocation;
pub mod spooled_row;
pub mod usage_batch;
pub mod usage_batcher;
mod usage_inbox;
