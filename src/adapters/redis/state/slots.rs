//! Stream slots in Redis: for each receipt a sorted set of its streams, ordered by the time when their slots expire, on
//! the server's clock, so that the clocks of instances do not matter. A receipt without streams has no key.

use std::{ops::ControlFlow, time::Duration};

use async_trait::async_trait;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    ports::{PortResult, SlotGrant, StreamSlots},
};
use redis::Value;

use super::{
    super::{
        link::{Haste, RedisLink, typed},
        script::{Call, Script},
    },
    RedisState,
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

fn take(link: &RedisLink, receipt: ReceiptId, stream: UsageId, limit: u32, ttl: Duration) -> Call {
    TAKE.on(&[&key(link, receipt)]).arg(member(stream)).arg(limit).arg(millis(ttl))
}

fn taken(answer: Value) -> PortResult<SlotGrant> {
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

fn count(link: &RedisLink, receipt: ReceiptId) -> Call {
    COUNT.on(&[&key(link, receipt)])
}

pub(super) fn millis(ttl: Duration) -> u64 {
    // A time of zero would delete the key.
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 2)
}

/// How long a refused stream waits before it asks again, as a multiple of the time for which a released slot may stay
/// in a queue, and the least wait: a queue is not the only delay.
const GATHERINGS: u32 = 4;
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// How long it waits before it asks a third time, and then accepts the refusal. Redis may just have hung, too briefly
/// for this instance to notice. An instance that did notice finds Redis again within a few milliseconds, and releases
/// its ended slots.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between two questions while other instances may still have updates to send. The wait doubles up to
/// this, because Redis is under load at that time.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

impl RedisState {
    /// Asks for a slot once. Continues with a refusal by Redis, and breaks with any other result, including a decision
    /// that this instance makes without Redis.
    async fn ask_for_slot(
        &self,
        receipt: ReceiptId,
        stream: UsageId,
        limit: u32,
        ttl: Duration,
    ) -> PortResult<ControlFlow<SlotGrant, SlotGrant>> {
        let now = self.clock.monotonic();
        let answer = match self.ask(take(&self.link, receipt, stream, limit, ttl), Haste::Now).await {
            Ok(answer) => taken(answer)?,
            Err(failure) if failure.is_unavailability() => {
                let mut own = self.own();
                own.slot_ttl = ttl;
                let slot = own.slots.take(receipt, stream, limit, now, now + ttl);
                if slot != SlotGrant::Taken && !failure.is_unsent() {
                    // Redis may have granted the slot that is refused here.
                    own.gave_back((receipt, stream));
                }
                return Ok(ControlFlow::Break(slot));
            }
            Err(failure) => return Err(failure.into()),
        };
        if answer != SlotGrant::Taken {
            return Ok(ControlFlow::Continue(answer));
        }
        let mut own = self.own();
        own.slot_ttl = ttl;
        // Taken regardless of the local limit: Redis has decided.
        Ok(ControlFlow::Break(own.slots.take(receipt, stream, u32::MAX, now, now + ttl)))
    }
}

#[async_trait]
impl StreamSlots for RedisState {
    async fn take_slot(&self, receipt: ReceiptId, stream: UsageId, limit: u32, ttl: Duration) -> PortResult<SlotGrant> {
        let mut wait = (self.link.gather() * GATHERINGS).max(SHORTEST_WAIT);
        let mut asked = 0;
        loop {
            let refused = match self.ask_for_slot(receipt, stream, limit, ttl).await? {
                ControlFlow::Break(slot) => return Ok(slot),
                ControlFlow::Continue(refused) => refused,
            };
            asked += 1;
            // With a limit of zero, no slot can be released.
            if limit == 0 || (asked > 2 && !self.link.is_just_back()) {
                return Ok(refused);
            }
            // A server that hung may just have carried out calls that this instance had given up on. Those streams are
            // over, but count until Redis is told.
            self.send_missed().await;
            // Another instance may have a release on its way that its client already knows of, or may only now be able
            // to send one; after a longer fault it may not have noticed yet that Redis is back.
            tokio::time::sleep(wait).await;
            wait = if asked == 1 { LAST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
        }
    }

    async fn refresh_slots(&self, slots: &[(ReceiptId, UsageId)], ttl: Duration) -> PortResult<()> {
        let held = {
            let (mut own, now) = (self.own(), self.clock.monotonic());
            own.slot_ttl = ttl;
            // A slot that expired is not restored: another stream may hold it now.
            let held = slots.iter().copied().filter(|&(receipt, stream)| {
                own.slots.refresh(receipt, stream, now, now + ttl);
                own.slots.holds(receipt, stream, now)
            });
            held.collect()
        };
        self.send_missed().await;
        self.hold(held, ttl).await;
        Ok(())
    }

    async fn release_slot(&self, receipt: ReceiptId, stream: UsageId) -> PortResult<()> {
        self.own().slots.release(receipt, stream);
        match self.ask(release(&self.link, receipt, stream), Haste::Later).await {
            Err(failure) if failure.is_unavailability() => {
                self.own().gave_back((receipt, stream));
                Ok(())
            }
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32> {
        match self.ask(count(&self.link, receipt), Haste::Now).await {
            Err(failure) if failure.is_unavailability() => Ok(self.own().slots.count(receipt, self.clock.monotonic())),
            answer => typed(answer?),
        }
    }
}
