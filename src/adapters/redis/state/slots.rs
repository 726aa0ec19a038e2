//! Stream slots in Redis: for each receipt a sorted set of its streams, ordered by the time when their slots expire, on
//! the server's clock, so that the clocks of instances do not matter. A receipt without streams has no key.

use std::time::Duration;

use penstock_actors::{
    ids::{ReceiptId, UsageId},
    ports::{PortResult, SlotGrant},
};
use redis::Value;

use super::super::{
    link::{RedisLink, typed},
    script::{Call, Script},
};

/// The server's time in milliseconds, and a function that makes a key live at least as long as its newest member.
macro_rules! slot_script {
    ($code:literal) => {
        concat!(
            "local time = redis.call('TIME')\n",
            "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n",
            "local function keep(ttl)\n",
            "  if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end\n",
            "end\n",
            $code
        )
    };
}

/// ARGV: stream, limit, time to live. Returns -1, or the number of running streams when no slot is free. A stream that
/// holds a slot keeps it, so the call may be repeated.
static TAKE: Script = Script::new(
    "slot_take",
    slot_script!(
        "local ttl = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local running = redis.call('ZCARD', KEYS[1])
  if running >= tonumber(ARGV[2]) then return running end
end
redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
keep(ttl)
return -1"
    ),
);

/// ARGV: time to live, streams. They hold slots from now on, whatever the limit, because they run.
static HOLD: Script = Script::new(
    "slot_hold",
    slot_script!(
        "local ttl = tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ttl, ARGV[i]) end
keep(ttl)"
    ),
);

static COUNT: Script =
    Script::new("slot_count", slot_script!("return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')"));

fn key(link: &RedisLink, receipt: ReceiptId) -> String {
    link.key("slots", receipt)
}

/// Sixteen bytes instead of thirty-six characters, so that the set keeps its compact encoding.
fn member(stream: UsageId) -> Vec<u8> {
    stream.as_uuid().into_bytes().to_vec()
}

pub(super) fn take(link: &RedisLink, receipt: ReceiptId, stream: UsageId, limit: u32, ttl: Duration) -> Call {
    TAKE.on(&[&key(link, receipt)]).arg(member(stream)).arg(limit).arg(millis(ttl))
}

pub(super) fn taken(answer: Value) -> PortResult<SlotGrant> {
    let running: i64 = typed(answer)?;
    Ok(if running < 0 { SlotGrant::Taken } else { SlotGrant::Full(u32::try_from(running).unwrap_or(u32::MAX)) })
}

pub(super) fn hold(link: &RedisLink, receipt: ReceiptId, streams: &[UsageId], ttl: Duration) -> Call {
    let call = HOLD.on(&[&key(link, receipt)]).arg(millis(ttl));
    streams.iter().fold(call, |call, stream| call.arg(member(*stream)))
}

pub(super) fn release(link: &RedisLink, receipt: ReceiptId, stream: UsageId) -> Call {
    Call::command("slot_release", "ZREM").key(&key(link, receipt)).arg(member(stream))
}

pub(super) fn count(link: &RedisLink, receipt: ReceiptId) -> Call {
    COUNT.on(&[&key(link, receipt)])
}

pub(super) fn millis(ttl: Duration) -> u64 {
    // A time of zero would delete the key.
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 2)
}
