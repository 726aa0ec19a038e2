//! One-time uses in Redis: sorted sets of names by the time at which they were made, all on the server's clock, so that
//! the clocks of instances do not matter.
//!
//! # A set reports what it has lost
//! A set holds since when it remembers, and the run ID of the server that noted this. So a set that Redis has lost (a
//! restart, `FLUSHALL`, an eviction), and a set that a restart or a replica restored in an older state, begins again
//! and reports that it does not know earlier uses. A set also holds the creation time of the newest name that it has
//! dropped as too old. A name from that time or earlier is never accepted as new, whatever the clock does, and even if
//! another instance has a longer window.
//!
//! Sets have no time to live: none expires or is evicted by `volatile-*`, and each use clears its set of old names.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::ports::{PortError, PortResult, ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms};
use redis::Value;

use super::{
    super::{
        error::REDIS,
        link::{Haste, RedisLink, typed},
        script::{Call, Script},
    },
    RedisState,
};

/// The number of sets; the first half byte of a name selects one. They are spread over the servers of a cluster, and
/// each clearing stays short.
const SETS: u32 = 16;

/// The server's time in milliseconds, and since when the set remembers. The set's own notes have negative scores, which
/// the clearing skips. Where the run ID of the server may not be read, only the loss of a whole set is detected.
macro_rules! use_script {
    ($code:literal) => {
        concat!(
            "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local info = redis.pcall('INFO', 'server')
local run = 'run ' .. (type(info) == 'string' and string.match(info, 'run_id:(%w+)') or '')
local since = redis.call('ZSCORE', KEYS[1], 'since')
if since and redis.call('ZSCORE', KEYS[1], run) then since = -tonumber(since) else
  since = now
  redis.call('ZREMRANGEBYSCORE', KEYS[1], -1, -1)
  redis.call('ZADD', KEYS[1], -now, 'since', -1, run)
end
",
            $code
        )
    };
}

/// Begins to remember, unless it was begun.
static BEGIN: Script = Script::new("uses_begin", use_script!(""));

/// ARGV: name, creation time, window, how far ahead the creation time may be, names in the set at most. Returns a word
/// and a number.
static USE: Script = Script::new(
    "use_once",
    use_script!(
        "local made, window, ahead = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local gone = -tonumber(redis.call('ZSCORE', KEYS[1], 'gone') or 0)
local last = redis.call('ZREVRANGEBYSCORE', KEYS[1], now - window, 1, 'WITHSCORES', 'LIMIT', 0, 1)
if last[2] then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], 1, now - window)
  gone = math.max(gone, tonumber(last[2]))
  redis.call('ZADD', KEYS[1], -gone, 'gone')
end
if made + window <= now or made - now > ahead then return {'stale', now} end
if made <= since + ahead then return {'forgotten', since + ahead - now} end
if made <= gone then return {'stale', now} end
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'again', 0} end
if redis.call('ZCOUNT', KEYS[1], 1, '+inf') >= tonumber(ARGV[5]) then return {'full', 0} end
redis.call('ZADD', KEYS[1], made, ARGV[1])
return {'first', 0}"
    ),
);

fn key(link: &RedisLink, set: u32) -> String {
    link.key("used", format_args!("{set:x}"))
}

/// The calls that have every set remember from now on.
pub(super) fn begin(link: &RedisLink) -> Vec<Call> {
    (0..SETS).map(|set| BEGIN.on(&[&key(link, set)])).collect()
}

fn check_replay(link: &RedisLink, once: ReplayKey, terms: ReplayTerms) -> Call {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    USE.on(&[&key(link, u32::from(once.name[0] >> 4))])
        .arg(once.name.as_slice())
        .arg(once.made_at.as_millisecond())
        .arg(millis(terms.window))
        .arg(millis(terms.ahead))
        .arg((terms.uses / SETS).max(1))
}

/// The meaning of an answer to [`check_replay`].
fn used(answer: Value) -> PortResult<ReplayCheck> {
    let (word, number): (String, i64) = typed(answer)?;
    match word.as_str() {
        "first" => Ok(ReplayCheck::First),
        "again" => Ok(ReplayCheck::Again),
        "stale" => Timestamp::from_millisecond(number)
            .map(ReplayCheck::Stale)
            .map_err(|error| PortError::rejected(REDIS, error)),
        "forgotten" => Ok(ReplayCheck::Forgotten(Duration::from_millis(number.try_into().unwrap_or_default()))),
        "full" => Err(PortError::unavailable(REDIS, "the store of one-time uses is full")),
        word => Err(PortError::rejected(REDIS, format!("the unknown answer {word}"))),
    }
}

#[async_trait]
impl ReplayGuard for RedisState {
    async fn check_replay(&self, once: ReplayKey, terms: ReplayTerms) -> PortResult<ReplayCheck> {
        used(self.ask(check_replay(&self.link, once, terms), Haste::Now).await?)
    }
}
