//! Rate limits as the edge of the node uses them: one question, and an answer that never fails.
//!
//! Without a shared store, requests are counted in this process. With one, they are counted there, and this instance
//! spends an [`Allowance`] that it took in advance ([`shared`]), so few requests wait for the store. While the store
//! does not answer, each instance counts alone, against its share: the limit divided by the number of instances. Such a
//! count begins at zero, so in the window of the change a client may be admitted up to its limit once more. When the
//! store answers again, it is used again.
//!
//! These limits are for clients and classes of calls. The limits of a receipt come from its quota policy, and
//! [`quota`](crate::quota) applies them.
//!
//! [`local`] counts in this process. The server's middleware calls [`RateLimiter`]. **Bound.** Subjects in a table; those that asked least
//! are forgotten first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use self::local::RateCounters;
use crate::{
    clock::Clock,
    model::{Subject, rate_window::CountRequest},
    ports::{RateGrant, RateLimits},
};

mod allowance;
pub mod local;
mod shared;

pub use allowance::Allowance;
use shared::SharedLimits;

/// Where a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedBy {
    /// In this process, as configured.
    Here,
    /// In the store that all instances share, or against an allowance from it.
    Shared,
    /// In this process, because the store does not answer.
    Alone,
}

/// Whether a request may go on, and what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateDecision {
    pub allowed: bool,
    /// The limit that applied: the configured one, or this instance's share of it.
    pub limit: u32,
    /// Requests left, as far as this instance knows.
    pub remaining: u32,
    /// How long until more are left; for a refusal, when to come back.
    pub more_after: Duration,
    pub counted: CountedBy,
}

impl RateDecision {
    fn of(grant: RateGrant, limit: u32, counted: CountedBy) -> Self {
        let RateGrant { granted, remaining, more_after, .. } = grant;
        Self { allowed: granted > 0, limit, remaining, more_after, counted }
    }
}

/// Dependencies of a limiter that shares its counts.
pub struct Sharing {
    pub limits: Arc<dyn RateLimits>,
    /// The number of instances, as far as known.
    pub instances: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Where questions to the store run, so that a client that leaves does not cancel the answer for others.
    pub io: Handle,
}

/// Decides which requests may go on.
pub struct RateLimiter {
    local: RateCounters,
    shared: Option<SharedLimits>,
}

impl RateLimiter {
    /// Counts in windows of this length, for about `subjects` subjects.
    pub fn new(clock: &Arc<dyn Clock>, window: Duration, subjects: usize, sharing: Option<Sharing>) -> Self {
        Self {
            local: RateCounters::new(Arc::clone(clock), window, subjects),
            shared: sharing.map(|sharing| SharedLimits::new(Arc::clone(clock), subjects, sharing)),
        }
    }

    /// Counts one request of a subject, if it may go on.
    pub async fn check(&self, subject: &Subject, limit: u32) -> RateDecision {
        let Some(shared) = &self.shared else {
            return RateDecision::of(self.local.count(subject, CountRequest::one(limit)), limit, CountedBy::Here);
        };
        if let Some(grant) = shared.take(subject, limit).await {
            return RateDecision::of(grant, limit, CountedBy::Shared);
        }
        let share = (limit / shared.instances()).max(1);
        RateDecision::of(self.local.count(subject, CountRequest::one(share)), share, CountedBy::Alone)
    }

    /// Subjects in memory.
    pub fn subjects(&self) -> usize {
        self.local.subjects() + self.shared.as_ref().map_or(0, SharedLimits::subjects)
    }
}

/// The time left until `then`; zero when it has passed.
fn until(then: Instant, now: Instant) -> Duration {
    then.saturating_duration_since(now)
}

#[cfg(test)]
mod tests;
