//! The arithmetic of rate limits: a sliding window out of two counters.
//!
//! Time is cut into aligned windows. What a subject asked in the present window counts in full, what it asked in the one
//! before counts by the part of it that a window which ends now still covers: `previous * (1 - elapsed / window) + current`.
//! A request is let in while that is below the limit. Requests that are refused count nothing, so that who hammers gets in
//! again as soon as there is room, and not only after a pause.
//!
//! # How exact it is
//! - In an aligned window never more than the limit is let in.
//! - In any other span as long as a window at most the limit and the share of the window before that has slid out, which is
//!   less than twice the limit. It takes a client that asks for everything in the last instant of a window and then goes on
//!   asking; it gets what a bucket of that size would give it.
//! - The count is off from an exact log of requests by at most the larger of the two shares of the previous window, because
//!   the requests of that are taken to be spread evenly. Where they are, it is off by one.
//!
//! Two numbers a subject is what this costs; an exact log would cost one number a request.

use std::time::Duration;

/// What one subject was let in for: the counts of two neighbouring windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateWindow {
    pub previous: u32,
    pub current: u32,
}

/// Where a moment lies in its window, in milliseconds: coarse enough that scripts in a store count with the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Less than `window`.
    pub elapsed: u64,
    /// More than 0.
    pub window: u64,
}

impl Moment {
    /// Time until the window ends.
    pub const fn left(self) -> Duration {
        Duration::from_millis(self.window - self.elapsed)
    }
}

impl RateWindow {
    /// Requests that may be let in now.
    pub fn headroom(self, limit: u32, at: Moment) -> u32 {
        let covered = share(self.previous, at);
        u32::try_from(u64::from(limit).saturating_sub(u64::from(self.current) + covered)).unwrap_or(u32::MAX)
    }

    /// Counts as many as there is room for: all that are needed, and of what remains one part in `spare_parts`, so that who
    /// asks for several seldom has to ask. Returns how many.
    pub fn take(&mut self, ask: Ask, at: Moment) -> u32 {
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

    /// How long until there is room for one more than now, if nobody asks in the meantime. No time where nothing is counted.
    pub fn more_after(self, limit: u32, at: Moment) -> Duration {
        let wanted = u64::from(self.headroom(limit, at)) + 1;
        let Some(room) = u64::from(limit).checked_sub(wanted) else { return Duration::ZERO };
        if let Some(room) = room.checked_sub(u64::from(self.current)) {
            return Duration::from_millis(slid_down_to(room, self.previous, at.window).saturating_sub(at.elapsed));
        }
        // Not in this window: what it counts becomes the previous one's, and nothing is current.
        at.left() + Duration::from_millis(slid_down_to(room, self.current, at.window))
    }
}

/// The whole requests of the previous window's `count` that still lie in a window which ends now. The millisecond that is under
/// way counts as over, so that the first of them leaves with the turn of the window.
fn share(count: u32, at: Moment) -> u64 {
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

/// How many requests are to be counted, and against what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Requests that a window may count.
    pub limit: u32,
    /// Requests that wait to be let in.
    pub need: u32,
    /// Beyond them, one part in so many of what then remains is counted too, for requests to come. 0: nothing.
    pub spare_parts: u32,
}

impl Ask {
    /// For one request.
    pub const fn one(limit: u32) -> Self {
        Self { limit, need: 1, spare_parts: 0 }
    }
}

#[cfg(test)]
mod tests;
