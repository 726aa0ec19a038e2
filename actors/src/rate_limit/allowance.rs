//! The allowance of one subject on this instance: requests that the shared store counted ahead of time.
//!
//! Why limits hold: a request is admitted only against one that the store has counted, and only in the window in which
//! it was counted. This instance computes the end of that window from before the question was sent, so the window ends
//! here no later than in the store. The clocks may differ; they only have to run equally fast. So all instances
//! together never exceed a window's limit.
//!
//! What it costs: requests that an instance does not spend are lost until their window has slid out. The store grants one
//! part in `4 * instances` of the remainder ([`SPARE_PARTS`]), which keeps all of that together under a quarter of the limit.

use std::time::{Duration, Instant};

use super::until;
use crate::ports::RateGrant;

/// An instance takes ahead at most one part in this many, times the number of instances, of the remainder. So a client
/// that moves from one instance to the others finds at least three quarters of its limit, and one that stays at one
/// instance causes a few dozen round trips in a window of thousands of requests.
pub(super) const SPARE_PARTS: u32 = 4;

/// The shortest time between two questions about a subject after a refusal. Clients are told whole seconds, so only a
/// client that ignores them can notice; and the cost for the store is bounded.
const REFUSAL: Duration = Duration::from_millis(100);

/// The allowance of one subject.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Requests that may be admitted until `good_until`.
    permits: u32,
    good_until: Instant,
    /// Until when the store would refuse.
    refused_until: Instant,
    /// The requests left in the store beyond these, and when it would have more.
    remaining: u32,
    more_at: Instant,
}

impl Allowance {
    /// The allowance before the store was asked: none.
    pub const fn none(now: Instant) -> Self {
        Self { permits: 0, good_until: now, refused_until: now, remaining: 0, more_at: now }
    }

    /// Admits or refuses a request; `None` when the store must be asked.
    pub fn spend(&mut self, now: Instant) -> Option<RateGrant> {
        if now < self.good_until && self.permits > 0 {
            self.permits -= 1;
            let more_at = if now < self.more_at { self.more_at } else { self.good_until };
            return Some(RateGrant {
                granted: 1,
                remaining: self.remaining.saturating_add(self.permits),
                valid_for: until(self.good_until, now),
                more_after: until(more_at, now),
            });
        }
        (now < self.refused_until).then(|| RateGrant {
            granted: 0,
            remaining: 0,
            valid_for: until(self.good_until, now),
            more_after: until(self.more_at, now),
        })
    }

    /// Takes over the store's answer to a question that was sent at `asked`. Any earlier allowance is used up or of an
    /// ended window: the store is not asked before.
    pub fn deposit(&mut self, grant: RateGrant, asked: Instant) {
        self.permits = grant.granted;
        self.good_until = asked + grant.valid_for;
        self.remaining = grant.remaining;
        self.more_at = asked + grant.more_after;
        if grant.granted == 0 {
            self.more_at = self.more_at.max(asked + REFUSAL);
            self.refused_until = self.more_at;
        }
    }

    /// Requests that may be admitted without asking.
    pub fn permits(&self, now: Instant) -> u32 {
        if now < self.good_until { self.permits } else { 0 }
    }

    /// Whether it has no effect at this time, so that it may be dropped.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.permits(now) == 0 && self.refused_until <= now
    }
}
