//! The arithmetic of rate limits: a sliding window made of two counters.
//!
//! Time is cut into aligned windows. A subject's requests in the current window count in full; those in the previous
//! window count by the share of it that a window ending now still covers:
//!
//! `previous * (1 - elapsed / window) + current`
//!
//! A request is admitted while that sum is below the limit. Refused requests are not counted, so a client that keeps
//! trying is admitted again as soon as there is room, without having to pause.
//!
//! # How exact it is
//! - In an aligned window, never more than the limit is admitted.
//! - In any other span as long as a window, at most the limit plus the share of the previous window that has slid out:
//!   less than twice the limit. This takes a client that sends everything in the last instant of a window and then goes
//!   on; it gets what a bucket of that size would give it.
//! - Compared with an exact log of requests, the count is off by at most the larger of the two shares of the previous
//!   window, because that window's requests are taken to be spread evenly. Where they are, it is off by one.
//!
//! This costs two numbers per subject; an exact log would cost one number per request.

use std::time::Duration;

/// The admitted requests of one subject: the counts of two neighbouring windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateWindow {
    pub previous: u32,
    pub current: u32,
}

/// The position of a moment in its window, in milliseconds: coarse enough that scripts in a store count with the same
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowTime {
    /// Less than `window`.
    pub elapsed: u64,
    /// More than 0.
    pub window: u64,
}

impl WindowTime {
    /// Time until the window ends.
    pub const fn left(self) -> Duration {
        Duration::from_millis(self.window - self.elapsed)
    }
}

impl RateWindow {
    /// Requests that may be admitted now.
    pub fn headroom(self, limit: u32, at: WindowTime) -> u32 {
        let covered = share(self.previous, at);
        u32::try_from(u64::from(limit).saturating_sub(u64::from(self.current) + covered)).unwrap_or(u32::MAX)
    }

    /// Counts all needed requests, as far as there is room, and one part in `spare_parts` of the remainder, so that a
    /// caller with many requests seldom has to ask. Returns the number counted.
    pub fn take(&mut self, ask: CountRequest, at: WindowTime) -> u32 {
        let headroom = self.headroom(ask.limit, at);
        let spare = headroom.saturating_sub(ask.need).checked_div(ask.spare_parts).unwrap_or(0);
        let granted = headroom.min(ask.need.saturating_add(spare));
        self.current = self.current.saturating_add(granted);
        granted
    }

    /// The counts in the window after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { previous: self.current, current: 0 }
    }

    /// How long until there is room for one request more, if none comes meanwhile. Zero where nothing is counted.
    pub fn more_after(self, limit: u32, at: WindowTime) -> Duration {
        let wanted = u64::from(self.headroom(limit, at)) + 1;
        let Some(room) = u64::from(limit).checked_sub(wanted) else { return Duration::ZERO };
        if let Some(room) = room.checked_sub(u64::from(self.current)) {
            return Duration::from_millis(slid_down_to(room, self.previous, at.window).saturating_sub(at.elapsed));
        }
        // Not in this window: after it, its count is the previous one's, and the current count is zero.
        at.left() + Duration::from_millis(slid_down_to(room, self.current, at.window))
    }
}

/// How many of the previous window's `count` requests still lie in a window that ends now, in whole requests. The
/// current millisecond counts as over, so that the first of them leaves with the turn of the window.
fn share(count: u32, at: WindowTime) -> u64 {
    u64::from(count) * (at.window - at.elapsed - 1) / at.window
}

/// The first millisecond at which no more than `room` of the previous window's `count` is left in the share.
fn slid_down_to(room: u64, count: u32, window: u64) -> u64 {
    let count = u64::from(count);
    if count <= room {
        return 0;
    }
    // count * (window - elapsed - 1) / window < room + 1
    window - ((room + 1) * window).div_ceil(count)
}

/// How many requests are to be counted, and against which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRequest {
    /// Requests that a window may count.
    pub limit: u32,
    /// Requests that wait to be admitted.
    pub need: u32,
    /// Beyond them, one part in this many of the remainder is counted too, for later requests. 0: none.
    pub spare_parts: u32,
}

impl CountRequest {
    /// For one request.
    pub const fn one(limit: u32) -> Self {
        Self { limit, need: 1, spare_parts: 0 }
    }
}

#[cfg(test)]
mod tests;
