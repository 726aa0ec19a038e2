//! What one subject may do on this instance without asking: requests that were counted in the shared store ahead of time.
//!
//! Why limits hold: a request is let in only against one that the store has counted, and only in the window that it was
//! counted in. The end of that window is reckoned from before the question was sent, so it comes here no later than there,
//! whatever the clocks show; they only have to run equally fast. So the instances together never pass the limit of a window.
//!
//! What it costs: what an instance does not spend is lost until its window has slid out. A store that grants one part in
//! `4 * instances` of what remains ([`SPARE_PARTS`]) keeps all of that together under a quarter of the limit.

use std::time::{Duration, Instant};

use super::until;
use crate::ports::Grant;

/// An instance takes ahead at most one part in so many, times the instances, of what remains: a client who moves from one
/// instance to the others finds three quarters of its limit at the least, and one who stays at one instance causes a few
/// dozen round trips in a window of thousands of requests.
pub(super) const SPARE_PARTS: u32 = 4;

/// The store is not asked about a subject more often than this after a refusal. Clients are told whole seconds, so only who
/// does not listen can notice; and what that costs the store is bounded.
const REFUSAL: Duration = Duration::from_millis(100);

/// The allowance of one subject.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Requests that may be let in until `good_until`.
    permits: u32,
    good_until: Instant,
    /// Until when the store would say no.
    refused_until: Instant,
    /// What the store had beyond this, and when it would have more.
    remaining: u32,
    more_at: Instant,
}

impl Allowance {
    /// Nothing, before the store was asked.
    pub const fn none(now: Instant) -> Self {
        Self { permits: 0, good_until: now, refused_until: now, remaining: 0, more_at: now }
    }

    /// Lets a request in, or refuses it; `None` when the store must be asked.
    pub fn spend(&mut self, now: Instant) -> Option<Grant> {
        if now < self.good_until && self.permits > 0 {
            self.permits -= 1;
            let more_at = if now < self.more_at { self.more_at } else { self.good_until };
            return Some(Grant {
                granted: 1,
                remaining: self.remaining.saturating_add(self.permits),
                left: until(self.good_until, now),
                more_after: until(more_at, now),
            });
        }
        (now < self.refused_until).then(|| Grant {
            granted: 0,
            remaining: 0,
            left: until(self.good_until, now),
            more_after: until(self.more_at, now),
        })
    }

    /// Takes over what the store said to a question that was sent at `asked`. What was left of an earlier answer is of a
    /// window that is over, or nothing: it is not asked before.
    pub fn deposit(&mut self, grant: Grant, asked: Instant) {
        self.permits = grant.granted;
        self.good_until = asked + grant.left;
        self.remaining = grant.remaining;
        self.more_at = asked + grant.more_after;
        if grant.granted == 0 {
            self.more_at = self.more_at.max(asked + REFUSAL);
            self.refused_until = self.more_at;
        }
    }

    /// Requests that may be let in without asking.
    pub fn permits(&self, now: Instant) -> u32 {
        if now < self.good_until { self.permits } else { 0 }
    }

    /// Whether it says anything at this time. One that does not may be forgotten.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.permits(now) == 0 && self.refused_until <= now
    }
}
