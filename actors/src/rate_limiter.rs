//! Rate limits as the edge of the node asks for them: one question, and an answer that never fails.
//!
//! Without a store that all instances share, requests are counted here. With one, they are counted there, and this instance
//! spends an [`Allowance`] that it has taken ([`shared`]), so that hardly any request waits for the store. While the store
//! gives no answer, each instance limits on its own, at its share: the limit by the number of instances. Such a count begins
//! at nothing, so in the window of a change a client may be let in once more up to its limit; it goes back by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    clock::Clock,
    model::Subject,
    ports::{Grant, RateLimits},
    rate_counters::RateCounters,
    rate_window::Ask,
};

mod allowance;
mod shared;

pub use allowance::Allowance;
use shared::SharedLimits;

/// Where a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// In this process, which is where they are counted.
    Here,
    /// In the store that all instances share, or against what was taken from it.
    Shared,
    /// In this process, because the store gives no answer.
    Alone,
}

/// Whether a request may go on, and what its client should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// What was counted against: the limit, or this instance's share of it.
    pub limit: u32,
    /// Requests that are left, as far as this instance knows.
    pub remaining: u32,
    /// How long until more are left; of a refusal, when to come back.
    pub more_after: Duration,
    pub counted: Counted,
}

impl Verdict {
    fn of(grant: Grant, limit: u32, counted: Counted) -> Self {
        let Grant { granted, remaining, more_after, .. } = grant;
        Self { allowed: granted > 0, limit, remaining, more_after, counted }
    }
}

/// What a limiter that shares its counts depends on.
pub struct Sharing {
    pub limits: Arc<dyn RateLimits>,
    /// How many instances there are, as far as known.
    pub instances: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Where the store is asked, so that a client who leaves takes nobody's answer away.
    pub io: Handle,
}

/// Says who may go on.
pub struct RateLimiter {
    here: RateCounters,
    shared: Option<SharedLimits>,
}

impl RateLimiter {
    /// Counts in windows of this length, about `subjects` of them.
    pub fn new(clock: &Arc<dyn Clock>, window: Duration, subjects: usize, sharing: Option<Sharing>) -> Self {
        Self {
            here: RateCounters::new(Arc::clone(clock), window, subjects),
            shared: sharing.map(|sharing| SharedLimits::new(Arc::clone(clock), subjects, sharing)),
        }
    }

    /// Counts one request of a subject, if it may go on.
    pub async fn check(&self, subject: &Subject, limit: u32) -> Verdict {
        let Some(shared) = &self.shared else {
            return Verdict::of(self.here.count(subject, Ask::one(limit)), limit, Counted::Here);
        };
        if let Some(grant) = shared.take_one(subject, limit).await {
            return Verdict::of(grant, limit, Counted::Shared);
        }
        let share = (limit / shared.instances()).max(1);
        Verdict::of(self.here.count(subject, Ask::one(share)), share, Counted::Alone)
    }

    /// Subjects in memory.
    pub fn subjects(&self) -> usize {
        self.here.subjects() + self.shared.as_ref().map_or(0, SharedLimits::subjects)
    }
}

/// What is left of the time until `then`.
fn until(then: Instant, now: Instant) -> Duration {
    then.saturating_duration_since(now)
}

#[cfg(test)]
mod tests;
