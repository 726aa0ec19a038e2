//! State that all instances share but that is not money: stream slots, sessions, invalidation.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{PortResult, Tag};
use crate::{
    ids::{ReceiptId, SessionId, UsageId},
    model::{Session, SessionProgress},
};

/// The answer to a wish for a stream slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Taken,
    /// This many streams run, which is the limit.
    Full(u32),
}

/// Tags as they are published, on every instance. A hint that makes things quick: the log of changes
/// ([`Changes`](super::Changes)) tells of every change whose message was lost.
pub type Invalidations = broadcast::Receiver<Tag>;

/// State shared by all instances.
#[async_trait]
pub trait SharedState: Send + Sync + 'static {
    /// Takes one of a receipt's `limit` stream slots for `stream`. A slot frees itself when nobody refreshes it for `ttl`.
    async fn take_slot(&self, receipt: ReceiptId, stream: UsageId, limit: u32, ttl: Duration) -> PortResult<Slot>;

    /// Keeps slots for another `ttl`.
    async fn refresh_slots(&self, slots: &[(ReceiptId, UsageId)], ttl: Duration) -> PortResult<()>;

    /// Gives a slot back. Giving back what is not held succeeds.
    async fn release_slot(&self, receipt: ReceiptId, stream: UsageId) -> PortResult<()>;

    /// Slots taken of a receipt.
    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32>;

    /// Keeps a session for `ttl` after its last use.
    async fn put_session(&self, session: &Session, ttl: Duration) -> PortResult<()>;

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>>;

    /// Adds a finished stream to a session and keeps it for another `ttl`; what it came to, or `None` when it is gone.
    async fn add_progress(
        &self,
        id: SessionId,
        bytes: u64,
        position: u64,
        at: Timestamp,
        ttl: Duration,
    ) -> PortResult<Option<SessionProgress>>;

    /// Tells every instance that listens that what depends on these tags has changed.
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()>;

    /// Tags published from now on, this instance's own among them.
    fn invalidations(&self) -> Invalidations;

    /// Answers when the state can be reached.
    async fn ping(&self) -> PortResult<()>;
}
