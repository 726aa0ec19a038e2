//! Stream slots in Redis: for each receipt a sorted set of its streams, ordered by the time when their slots expire, on
//! the server's clock, so that the clocks of instances do not matter. A receipt without streams has no key.

use std::{ops::ControlFlow, time::Duration};

use async_trait::async_trait;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    ports::{PortError, PortResult, SlotGrant, StreamSlot, StreamSlots},
};
use redis::Value;
use uuid::Uuid;

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

/// ARGV: member, limit, time to live. Returns -1 and an empty text; or, when no slot is free, the number of running streams and the member of
/// the oldest one of the same session, or an empty text. Of a receipt with more streams, only 256 are compared. A stream that
/// holds a slot keeps it, so the call may be repeated.
static TAKE: Script = Script::new(
    "slot_take",
    slot_script!(
        "local ttl = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local running = redis.call('ZCARD', KEYS[1])
  if running >= tonumber(ARGV[2]) then
    local session, oldest = string.sub(ARGV[1], 17), ''
    for _, held in ipairs(redis.call('ZRANGE', KEYS[1], 0, 255)) do
      if string.sub(held, 17) == session and (oldest == '' or held < oldest) then oldest = held end
    end
    return {running, oldest}
  end
end
redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
keep(ttl)
return {-1, ''}"
    ),
);

/// ARGV: time to live, members. They hold slots from now on, whatever the limit, because they run.
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

/// The stream, sixteen bytes that sort by its time, and then its session: bytes instead of text, so that the set keeps its
/// compact encoding.
fn member(slot: &StreamSlot) -> Vec<u8> {
    [slot.stream.as_uuid().as_bytes().as_slice(), slot.session.as_bytes()].concat()
}

fn stream_of(member: &[u8]) -> PortResult<UsageId> {
    let stream = member.get(..16).and_then(|stream| Uuid::from_slice(stream).ok());
    let stream =
        stream.ok_or_else(|| PortError::Corrupt("the member of a set of slots in Redis is too short".to_owned()))?;
    Ok(UsageId::from_uuid(stream))
}

fn take(link: &RedisLink, slot: &StreamSlot, limit: u32, ttl: Duration) -> Call {
    TAKE.on(&[&key(link, slot.receipt)]).arg(member(slot)).arg(limit).arg(millis(ttl))
}

fn taken(answer: Value) -> PortResult<SlotGrant> {
    let (running, oldest): (i64, Vec<u8>) = typed(answer)?;
    let Ok(running) = u64::try_from(running) else { return Ok(SlotGrant::Taken) };
    let same_session = if oldest.is_empty() { None } else { Some(stream_of(&oldest)?) };
    Ok(SlotGrant::Full { active: u32::try_from(running).unwrap_or(u32::MAX), same_session })
}

pub(super) fn hold(link: &RedisLink, receipt: ReceiptId, slots: &[&StreamSlot], ttl: Duration) -> Call {
    let call = HOLD.on(&[&key(link, receipt)]).arg(millis(ttl));
    slots.iter().fold(call, |call, slot| call.arg(member(slot)))
}

pub(super) fn release(link: &RedisLink, slot: &StreamSlot) -> Call {
    Call::command("slot_release", "ZREM").key(&key(link, slot.receipt)).arg(member(slot))
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
        slot: &StreamSlot,
        limit: u32,
        ttl: Duration,
    ) -> PortResult<ControlFlow<SlotGrant, SlotGrant>> {
        let now = self.clock.monotonic();
        let answer = match self.ask(take(&self.link, slot, limit, ttl), Haste::Now).await {
            Ok(answer) => taken(answer)?,
            Err(failure) if failure.is_unavailability() => {
                let mut own = self.own();
                own.slot_ttl = ttl;
                let grant = own.slots.take(slot, limit, now, now + ttl);
                if grant != SlotGrant::Taken && !failure.is_unsent() {
                    // Redis may have granted the slot that is refused here.
                    own.gave_back(*slot);
                }
                return Ok(ControlFlow::Break(grant));
            }
            Err(failure) => return Err(failure.into()),
        };
        if answer != SlotGrant::Taken {
            return Ok(ControlFlow::Continue(answer));
        }
        let mut own = self.own();
        own.slot_ttl = ttl;
        // Taken regardless of the local limit: Redis has decided.
        Ok(ControlFlow::Break(own.slots.take(slot, u32::MAX, now, now + ttl)))
    }
}

#[async_trait]
impl StreamSlots for RedisState {
    async fn take_slot(&self, slot: &StreamSlot, limit: u32, ttl: Duration) -> PortResult<SlotGrant> {
        let mut wait = (self.link.gather() * GATHERINGS).max(SHORTEST_WAIT);
        let mut asked = 0;
        loop {
            let refused = match self.ask_for_slot(slot, limit, ttl).await? {
                ControlFlow::Break(grant) => return Ok(grant),
                ControlFlow::Continue(refused) => refused,
            };
            asked += 1;
            // The caller can have a stream of the same session end, which frees its slot sooner than a long wait.
            let may_end = matches!(refused, SlotGrant::Full { same_session: Some(_), .. });
            let enough = if may_end { 2 } else { 3 };
            // With a limit of zero, no slot can be released.
            if limit == 0 || (asked >= enough && !self.link.is_just_back()) {
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

    async fn refresh_slots(&self, slots: &[StreamSlot], ttl: Duration) -> PortResult<()> {
        let held = {
            let (mut own, now) = (self.own(), self.clock.monotonic());
            own.slot_ttl = ttl;
            // A slot that expired is not restored: another stream may hold it now.
            let held = slots.iter().copied().filter(|slot| {
                own.slots.refresh(slot, now, now + ttl);
                own.slots.holds(slot, now)
            });
            held.collect()
        };
        self.send_missed().await;
        self.hold(held, ttl).await;
        Ok(())
    }

    async fn release_slot(&self, slot: &StreamSlot) -> PortResult<()> {
        self.own().slots.release(slot);
        match self.ask(release(&self.link, slot), Haste::Later).await {
            Err(failure) if failure.is_unavailability() => {
                self.own().gave_back(*slot);
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
