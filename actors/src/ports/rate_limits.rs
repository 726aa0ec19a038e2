//! Counts of requests, for rate limits: by subject, in a sliding window.

use std::time::Duration;

use async_trait::async_trait;

use super::PortResult;
use crate::{
    model::Subject,
    rate_window::{Ask, Moment, RateWindow},
};

/// What a subject was granted, and how it stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Requests that were counted and may be let in until the window ends. 0 is a refusal, and was counted as nothing.
    pub granted: u32,
    /// Requests that are left beyond them.
    pub remaining: u32,
    /// How long the window goes on, and what was granted is good.
    pub left: Duration,
    /// How long until more is left than now, if nobody asks in the meantime; of a refusal, when to come back.
    pub more_after: Duration,
}

impl Grant {
    /// What a back end that has just counted `granted` says.
    pub fn of(granted: u32, counts: RateWindow, limit: u32, at: Moment) -> Self {
        Self {
            granted,
            remaining: counts.headroom(limit, at),
            left: at.left(),
            more_after: counts.more_after(limit, at),
        }
    }
}

/// Where requests are counted. All windows are as long as the back end was made with, and are aligned for all of its users,
/// whose clocks do not matter.
#[async_trait]
pub trait RateLimits: Send + Sync + 'static {
    /// Counts requests of a subject by [`RateWindow::take`], at once or not at all. The limit may change from call to call.
    async fn take(&self, subject: &Subject, ask: Ask) -> PortResult<Grant>;
}
