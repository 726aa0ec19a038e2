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

/// Something that may be done once: a signed request, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneUse {
    /// Names it. Evenly spread, as a hash is.
    pub name: [u8; 32],
    /// When whoever made it says that it was made.
    pub made_at: Timestamp,
}

/// When something that may be done once may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseTerms {
    /// For so long after it was made.
    pub window: Duration,
    /// By so much its maker's clock may be ahead.
    pub ahead: Duration,
    /// Uses that are remembered; further ones are refused as unavailable, for none may be forgotten before its time.
    pub uses: u32,
}

/// The answer to a wish to do something that may be done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    First,
    /// Somebody has done it, on this or another instance.
    Again,
    /// It was made too long ago, or lies too far ahead, by the state's clock, which is this.
    Stale(Timestamp),
    /// It may have been done: what the state remembers does not go back to when it was made. What is made after so long will do.
    Forgotten(Duration),
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

    /// Whether this is the first use within its time. Of all who ask, on all instances, one is told so, whatever the state has
    /// lost: what it may have forgotten is not the first. One clock decides, the state's own.
    ///
    /// # Errors
    /// Without the state nobody can tell: every error means that it must not be done. It may be remembered all the same, so a
    /// new one is made for another attempt.
    async fn use_once(&self, once: OneUse, terms: UseTerms) -> PortResult<Use>;

    /// Tells every instance that listens that what depends on these tags has changed.
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()>;

    /// Whether what is published reaches other instances. Where it does not, they read it in the log of changes at best.
    fn reaches_others(&self) -> bool {
        true
    }

    /// Tags published from now on, this instance's own among them.
    fn invalidations(&self) -> Invalidations;

    /// Answers when the state can be reached.
    async fn ping(&self) -> PortResult<()>;
}
