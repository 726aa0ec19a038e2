//! Request counters in Redis, so that all instances count together.
//!
//! A subject has one key, which holds the number of its window and the counts of that window and of the one before. One
//! script reads, decides and writes, in one round trip. Time is the server's, so the clocks of instances do not matter.
//! A key expires after two windows. Counts that Redis loses (a restart without a disk, a failover to a replica that is
//! behind) are granted again.

use std::{fmt::Display, time::Duration};

use async_trait::async_trait;
use penstock_actors::{
    model::{
        Subject,
        rate_window::{CountRequest, RateWindow, WindowTime},
    },
    ports::{PortResult, RateGrant, RateLimits},
};

use super::{RedisLink, Script};

/// [`RateWindow::take`] with the same whole numbers, which floating-point numbers hold exactly. When the server's clock
/// goes back (another server took over), the window does not move until the clock has caught up, or until nothing was
/// granted for two windows, when the key has expired.
static TAKE: Script = Script::new(
    "rate_take",
    "local window, limit, need, parts = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local index, elapsed = math.floor(now / window), now % window
    local previous, current = 0, 0
    local kept = redis.call('GET', KEYS[1])
    if kept then
        local i, p, c = string.match(kept, '^(%d+):(%d+):(%d+)$')
        i = tonumber(i or 0)
        if i > index then index, elapsed = i, 0 end
        if i == index then
            previous, current = tonumber(p), tonumber(c)
        elseif i == index - 1 then
            previous = tonumber(c)
        end
    end
    local covered = math.floor(previous * (window - elapsed - 1) / window)
    local headroom = math.max(0, limit - current - covered)
    local granted = math.min(headroom, need)
    if parts > 0 then granted = granted + math.floor((headroom - granted) / parts) end
    if granted > 0 then
        current = current + granted
        redis.call('SET', KEYS[1], string.format('%d:%d:%d', index, previous, current), 'PX', 2 * window)
    end
    return {granted, previous, current, elapsed}",
);

/// Counters in Redis.
pub struct RedisRateLimits {
    link: RedisLink,
    prefix: String,
    /// In milliseconds.
    window: u64,
}

impl RedisRateLimits {
    /// Counts in windows of this length (whole milliseconds), under keys that begin with `prefix`.
    pub fn new(link: RedisLink, prefix: impl Display, window: Duration) -> Self {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { link, prefix: prefix.to_string(), window }
    }
}

#[async_trait]
impl RateLimits for RedisRateLimits {
    async fn take(&self, subject: &Subject, ask: CountRequest) -> PortResult<RateGrant> {
        let key = format!("{}{subject}", self.prefix);
        let call = TAKE.on(&[&key]).arg(self.window).arg(ask.limit).arg(ask.need).arg(ask.spare_parts);
        let (granted, previous, current, elapsed): (u32, u32, u32, u64) = self.link.ask(call).await?;
        let at = WindowTime { elapsed: elapsed.min(self.window - 1), window: self.window };
        Ok(RateGrant::of(granted, RateWindow { previous, current }, ask.limit, at))
    }
}
