//! Counts of requests, for rate limits: by subject, in a sliding window.

use std::time::Duration;

use async_trait::async_trait;

use super::PortResult;
use crate::model::{
    Subject,
    rate_window::{CountRequest, RateWindow, WindowTime},
};

/// The grant for a subject, and the state of its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateGrant {
    /// Requests that were counted and may be admitted until the window ends. 0 is a refusal, and counted nothing.
    pub granted: u32,
    /// Requests left beyond them.
    pub remaining: u32,
    /// The time until the window ends, for which the grant is good.
    pub valid_for: Duration,
    /// How long until more are left, if no request comes meanwhile; for a refusal, when to come back.
    pub more_after: Duration,
}

impl RateGrant {
    /// The answer of a back end that has just counted `granted`.
    pub fn of(granted: u32, counts: RateWindow, limit: u32, at: WindowTime) -> Self {
        Self {
            granted,
            remaining: counts.headroom(limit, at),
            valid_for: at.left(),
            more_after: counts.more_after(limit, at),
        }
    }
}

/// Counts requests. All windows have the length with which the back end was made, and are aligned for all of its users,
/// whose clocks do not matter.
#[async_trait]
pub trait RateLimits: Send + Sync + 'static {
    /// Counts requests of a subject by [`RateWindow::take`], atomically. The limit may change from call to call.
    async fn take(&self, subject: &Subject, ask: CountRequest) -> PortResult<RateGrant>;
}
