//! State that all instances share and that is not money: stream slots, sessions, invalidation.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{PortResult, Tag};
use crate::{
    ids::{ReceiptId, SessionId, UsageId},
    model::{Session, SessionProgress},
};

/// The answer to a request for a stream slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotGrant {
    Taken,
    /// The limit is reached: this many streams run.
    Full(u32),
}

/// An action that may be done once, such as a signed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayKey {
    /// Its name, with the even distribution of a hash.
    pub name: [u8; 32],
    /// When it was made, according to its maker.
    pub made_at: Timestamp,
}

/// The conditions for an action that may be done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayTerms {
    /// The longest time after it was made.
    pub window: Duration,
    /// How far its maker's clock may be ahead.
    pub ahead: Duration,
    /// Uses that are remembered. Beyond that, requests are refused as unavailable, since no use may be forgotten before
    /// its time.
    pub uses: u32,
}

/// The answer to a request for such an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayCheck {
    First,
    /// It was done before, on this or another instance.
    Again,
    /// It was made too long ago, or too far ahead, by the state's clock, whose time this is.
    Stale(Timestamp),
    /// It may have been done: the state's memory does not reach back to the time it was made. Requests signed after
    /// this delay are accepted.
    Forgotten(Duration),
}

/// Published tags, on every instance. This is a hint that saves time: the log of changes ([`Changes`](super::Changes))
/// has every change whose message was lost.
pub type Invalidations = broadcast::Receiver<Tag>;

/// State shared by all instances.
#[async_trait]
pub trait SharedState: Send + Sync + 'static {
    /// Takes one of a receipt's `limit` stream slots for `stream`. A slot expires when it is not refreshed for `ttl`.
    async fn take_slot(&self, receipt: ReceiptId, stream: UsageId, limit: u32, ttl: Duration) -> PortResult<SlotGrant>;

    /// Extends slots for another `ttl`.
    async fn refresh_slots(&self, slots: &[(ReceiptId, UsageId)], ttl: Duration) -> PortResult<()>;

    /// Gives a slot back. Succeeds when it is not held.
    async fn release_slot(&self, receipt: ReceiptId, stream: UsageId) -> PortResult<()>;

    /// The number of a receipt's slots that are taken.
    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32>;

    /// Keeps a session for `ttl` after its last use.
    async fn put_session(&self, session: &Session, ttl: Duration) -> PortResult<()>;

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>>;

    /// Adds a finished stream to a session and keeps it for another `ttl`; returns the totals, or `None` when it has expired.
    async fn add_progress(
        &self,
        id: SessionId,
        bytes: u64,
        position: u64,
        at: Timestamp,
        ttl: Duration,
    ) -> PortResult<Option<SessionProgress>>;

    /// Whether this is the first use within its time. Of all callers, on all instances, exactly one gets
    /// [`ReplayCheck::First`], even if the state has lost data: a use that it may have forgotten is not the first. One clock
    /// decides, the state's own.
    ///
    /// # Errors
    /// Without the state the answer is unknown: after every error the action must not be done. It may be remembered all
    /// the same, so another attempt needs a new one.
    async fn check_replay(&self, once: ReplayKey, terms: ReplayTerms) -> PortResult<ReplayCheck>;

    /// Tells every listening instance that data with these tags has changed.
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()>;

    /// Whether published tags reach other instances. Otherwise those read them in the log of changes at best.
    fn reaches_others(&self) -> bool {
        true
    }

    /// Tags published from now on, including this instance's own.
    fn invalidations(&self) -> Invalidations;

    /// Succeeds when the state can be reached.
    async fn ping(&self) -> PortResult<()>;
}
