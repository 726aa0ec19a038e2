//! Stream slots: the concurrent streams of a receipt, counted over all instances.
//!
//! **Callers:** the quota shards take, refresh and release slots; the view of a receipt's quota counts them. **Errors:** without
//! the state each instance counts its own streams, so an error never ends a stream. **Bound:** a slot for each running stream,
//! and its time to live.

use std::time::Duration;

use async_trait::async_trait;

use super::PortResult;
use crate::{
    ids::{ReceiptId, UsageId},
    model::SessionMark,
};

/// The slot of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamSlot {
    pub receipt: ReceiptId,
    pub stream: UsageId,
    pub session: SessionMark,
}

/// The answer to a request for a stream slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotGrant {
    Taken,
    /// The limit is reached.
    Full {
        /// The streams that run.
        active: u32,
        /// The oldest of them that belongs to the session of the stream that asks.
        same_session: Option<UsageId>,
    },
}

/// The slots of all receipts.
#[async_trait]
pub trait StreamSlots: Send + Sync + 'static {
    /// Takes one of a receipt's `limit` stream slots. A slot expires when it is not refreshed for `ttl`.
    async fn take_slot(&self, slot: &StreamSlot, limit: u32, ttl: Duration) -> PortResult<SlotGrant>;

    /// Extends slots for another `ttl`.
    async fn refresh_slots(&self, slots: &[StreamSlot], ttl: Duration) -> PortResult<()>;

    /// Gives a slot back. Succeeds when it is not held.
    async fn release_slot(&self, slot: &StreamSlot) -> PortResult<()>;

    /// The number of a receipt's slots that are taken.
    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32>;
}
