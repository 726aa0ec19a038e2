//! The replay guard: the memory of signed requests that were accepted, so that none is accepted twice.
//!
//! **Caller:** the check of signed requests. **Errors:** the answer is unknown, and the request is refused. **Bound:**
//! [`ReplayTerms::uses`], given with each call; when the memory is full, requests are refused as unavailable.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;

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

/// The actions that were done.
#[async_trait]
pub trait ReplayGuard: Send + Sync + 'static {
    /// Whether this is the first use within its time. Of all callers, on all instances, exactly one gets
    /// [`ReplayCheck::First`], even if the state has lost data: a use that it may have forgotten is not the first. One clock
    /// decides, the state's own.
    ///
    /// # Errors
    /// Without the state the answer is unknown: after every error the action must not be done. It may be remembered all
    /// the same, so another attempt needs a new one.
    async fn check_replay(&self, once: ReplayKey, terms: ReplayTerms) -> PortResult<ReplayCheck>;
}
