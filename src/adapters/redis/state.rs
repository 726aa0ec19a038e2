//! Shared state on Redis. This instance's own part of it remains in use while Redis is down.
//!
//! **Slots:** this instance also keeps the slots of its own streams. While Redis does not serve, only those count: each
//! instance then applies the limit of a receipt by itself. When Redis comes back, or has lost its data (a restart,
//! `FLUSHALL`), the slots of running streams are put back, at once after a fault and otherwise with the next refresh,
//! and slots that were released meanwhile are removed.
//!
//! **Sessions:** this instance also keeps the sessions that it has seen. While Redis is down, they are found and
//! continue here. When Redis is back, they are put back with the progress that was added meanwhile.
//!
//! **Tags** go to this instance's listeners first, and to the other instances over pub/sub.
//!
//! **One-time use** is decided by Redis alone: without it, no instance can decide.
//!
//! Calls that no request waits for (a released slot, progress) share the round trip of a call that a request waits for,
//! ahead of it in the queue. So a stream costs at most one round trip when there is traffic, and the slot of its
//! predecessor is free when it asks.
//!
//! **Bound:** slots by the number of running streams; sessions by a configured number, the least recently used are
//! dropped first; updates that Redis still has to get by [`own::UNTOLD`].

mod own;
mod replay_guard;
mod sessions;
mod slots;
mod tags;

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock,
    ids::{ReceiptId, SessionId, UsageId},
    model::{Session, SessionProgress},
    ports::{Invalidations, PortResult, ReplayCheck, ReplayKey, ReplayTerms, SharedState, SlotGrant, Tag},
};
use redis::Value;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use self::own::{Own, PendingProgress};
use super::{
    error::RedisFailure,
    link::{Haste, RedisLink, typed},
    script::Call,
};
use crate::adapters::in_process::TAGS;

/// Calls that are sent together when state is put back: a part of the queue, so that streams make progress meanwhile.
const STEP: usize = 256;

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

/// Stream slots, sessions and invalidations on Redis.
pub struct RedisState {
    link: RedisLink,
    clock: Arc<dyn Clock>,
    /// Names this instance in messages.
    me: Uuid,
    own: Mutex<Own>,
    /// Held while Redis gets the updates that it missed, so that a caller that needs them there can wait.
    telling: tokio::sync::Mutex<()>,
    tags: broadcast::Sender<Tag>,
}

impl RedisState {
    /// Shared state over a link; this instance keeps at most `sessions` sessions.
    pub fn start(link: RedisLink, clock: Arc<dyn Clock>, sessions: usize) -> Arc<Self> {
        let own = Own::new(sessions);
        let (me, tags) = (Uuid::new_v4(), broadcast::Sender::new(TAGS));
        link.io().spawn(tags::follow(link.downgrade(), me, tags.clone()));
        let state =
            Arc::new(Self { link, clock, me, own: Mutex::new(own), telling: tokio::sync::Mutex::new(()), tags });
        state.link.io().spawn(put_back_after_faults(Arc::downgrade(&state), state.link.recoveries()));
        state
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        // Every change under the lock is complete before any code can panic.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, call: Call, haste: Haste) -> Result<Value, RedisFailure> {
        self.link.try_all(vec![call], haste).await.pop().unwrap_or(Err(RedisFailure::Open))
    }

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
        let answer = match self.ask(slots::take(&self.link, receipt, stream, limit, ttl), Haste::Now).await {
            Ok(answer) => slots::taken(answer)?,
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

    /// Has Redis remember one-time uses from now on, unless it does already. Otherwise the first caller would hear that
    /// earlier uses are unknown.
    async fn begin_to_remember(&self) {
        for failure in
            self.link.try_all(replay_guard::begin(&self.link), Haste::Now).await.into_iter().filter_map(Result::err)
        {
            tracing::debug!(%failure, "Redis was not told to remember one-time uses; it begins with the first use");
        }
    }

    /// Sends Redis every update that it missed, and the slots that it may have lost.
    async fn put_back(&self) {
        self.send_missed().await;
        let (held, ttl) = {
            let own = self.own();
            (own.slots.all(self.clock.monotonic()).collect(), own.slot_ttl)
        };
        self.hold(held, ttl).await;
    }

    /// Tells Redis which slots and sessions ended without it. Returns when Redis has all of them, even if another task
    /// sends them.
    async fn send_missed(&self) {
        let Some(haste) = self.link.haste_to_tell() else { return };
        let _telling = self.telling.lock().await;
        let (given_back, untold) = {
            let mut own = self.own();
            (std::mem::take(&mut own.given_back), std::mem::take(&mut own.untold))
        };
        if given_back.is_empty() && untold.is_empty() {
            return;
        }
        tracing::debug!(slots = given_back.len(), sessions = untold.len(), "sending Redis the updates that it missed");
        for step in given_back.chunks(STEP) {
            let calls = step.iter().map(|&(receipt, stream)| slots::release(&self.link, receipt, stream)).collect();
            let answers = self.link.try_all(calls, haste).await;
            let mut own = self.own();
            for (&slot, answer) in step.iter().zip(answers) {
                if answer.is_err_and(|failure| failure.is_unavailability()) {
                    own.gave_back(slot);
                }
            }
        }
        self.restore(untold.into_iter().collect(), haste).await;
    }

    /// Puts slots into Redis that this instance holds, unless they have ended.
    async fn hold(&self, mut slots: Vec<(ReceiptId, UsageId)>, ttl: Duration) {
        slots.sort_unstable();
        let receipts: Vec<_> = slots.chunk_by(|one, other| one.0 == other.0).collect();
        for step in receipts.chunks(STEP) {
            let answers = {
                // Under the lock, so that a slot that is released from now on is released after this call.
                let (own, now) = (self.own(), self.clock.monotonic());
                let calls = step.iter().filter_map(|slots| {
                    let held = slots.iter().filter(|&&(receipt, stream)| own.slots.holds(receipt, stream, now));
                    let streams: Vec<_> = held.map(|&(_, stream)| stream).collect();
                    (!streams.is_empty()).then(|| slots::hold(&self.link, slots[0].0, &streams, ttl))
                });
                self.link.try_all(calls.collect(), Haste::Later)
            };
            if let Some(failure) = answers.await.into_iter().find_map(Result::err) {
                // They are put back when Redis serves, or with the next refresh.
                tracing::debug!(%failure, "stream slots were not put into Redis; the next refresh puts them there");
            }
        }
        drop(receipts);
        self.let_go(slots).await;
    }

    /// Releases slots that were just put into Redis but ended meanwhile: a call that is sent again, because its script
    /// was not loaded, arrives after a later release.
    async fn let_go(&self, mut slots: Vec<(ReceiptId, UsageId)>) {
        {
            let (own, now) = (self.own(), self.clock.monotonic());
            slots.retain(|&(receipt, stream)| !own.slots.holds(receipt, stream, now));
        }
        for step in slots.chunks(STEP) {
            let calls = step.iter().map(|&(receipt, stream)| slots::release(&self.link, receipt, stream)).collect();
            for failure in self.link.try_all(calls, Haste::Later).await.into_iter().filter_map(Result::err) {
                tracing::debug!(%failure, "a stream slot was not released in Redis; it expires there");
            }
        }
    }

    /// Puts sessions into Redis, with the progress that Redis has not received.
    async fn restore(&self, mut sessions: Vec<(SessionId, PendingProgress)>, haste: Haste) {
        let now = self.clock.monotonic();
        // For a session that is no longer kept here, only the added progress can be sent.
        sessions.retain(|(id, untold)| untold.progress.streams > 0 || self.own().sessions.get(*id, now).is_some());
        for step in sessions.chunks(STEP) {
            let now = self.clock.monotonic();
            let calls = {
                let mut own = self.own();
                let call = |(id, untold): &(SessionId, PendingProgress)| {
                    let ttl = own.sessions.remaining(*id, now).unwrap_or(untold.ttl);
                    match own.sessions.get(*id, now) {
                        Some(session) => sessions::restore(&self.link, session, &untold.progress, ttl),
                        None => sessions::add(&self.link, *id, &untold.progress, ttl),
                    }
                };
                step.iter().map(call).collect()
            };
            let answers = self.link.try_all(calls, haste).await;
            let mut own = self.own();
            for ((id, untold), answer) in step.iter().zip(answers) {
                match answer.map(sessions::sum) {
                    Ok(Ok(Some(sum))) => own.note_progress(*id, sum, now),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "Redis refused to restore a session; its progress while Redis was down may be missing there");
                    }
                    Err(failure) if failure.is_unsent() => own.owe(*id, untold.progress, untold.ttl),
                    Err(failure) => {
                        tracing::debug!(%failure, "Redis did not confirm that a session was restored; it may or may not be there");
                    }
                }
            }
        }
    }
}

/// Restores the state that Redis may lack each time it begins to serve.
async fn put_back_after_faults(state: Weak<RedisState>, mut recoveries: watch::Receiver<u64>) {
    if let Some(state) = state.upgrade() {
        state.begin_to_remember().await;
    }
    while recoveries.changed().await.is_ok() {
        let Some(state) = state.upgrade() else { return };
        state.begin_to_remember().await;
        state.put_back().await;
    }
}

#[async_trait]
impl SharedState for RedisState {
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
        match self.ask(slots::release(&self.link, receipt, stream), Haste::Later).await {
            Err(failure) if failure.is_unavailability() => {
                self.own().gave_back((receipt, stream));
                Ok(())
            }
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32> {
        match self.ask(slots::count(&self.link, receipt), Haste::Now).await {
            Err(failure) if failure.is_unavailability() => Ok(self.own().slots.count(receipt, self.clock.monotonic())),
            answer => typed(answer?),
        }
    }

    async fn put_session(&self, session: &Session, ttl: Duration) -> PortResult<()> {
        let now = self.clock.monotonic();
        self.own().sessions.put(session.clone(), now + ttl);
        match self.ask(sessions::put(&self.link, session, ttl), Haste::Now).await {
            Err(failure) if failure.is_unavailability() => {
                self.own().owe(session.session_id, SessionProgress::default(), ttl);
                Ok(())
            }
            answer => Ok(answer.map(drop)?),
        }
    }

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>> {
        let now = self.clock.monotonic();
        let mut answers = self.link.try_all(sessions::get(&self.link, id), Haste::Now).await.into_iter();
        let found = match (answers.next(), answers.next()) {
            (Some(Ok(fields)), Some(Ok(ttl))) => sessions::got(id, fields, ttl)?,
            (Some(Err(failure)), _) | (_, Some(Err(failure))) if !failure.is_unavailability() => {
                return Err(failure.into());
            }
            _ => return Ok(self.own().sessions.get(id, now).cloned()),
        };
        if let Some((session, ttl)) = found {
            self.own().sessions.put(session.clone(), now + ttl);
            return Ok(Some(session));
        }
        let Some(lost) = self.own().sessions.get(id, now).cloned() else { return Ok(None) };
        // Redis keeps used sessions for at least as long as this instance does, so it has lost this one.
        self.restore(vec![(id, PendingProgress::default())], Haste::Now).await;
        Ok(Some(lost))
    }

    async fn add_progress(
        &self,
        id: SessionId,
        bytes: u64,
        position: u64,
        at: Timestamp,
        ttl: Duration,
    ) -> PortResult<Option<SessionProgress>> {
        let now = self.clock.monotonic();
        let mut added = SessionProgress::default();
        added.add(bytes, position, at);
        let here = self.own().sessions.renew(id, now, now + ttl).map(|session| {
            session.progress.add(bytes, position, at);
            session.progress
        });
        match self.ask(sessions::add(&self.link, id, &added, ttl), Haste::Later).await {
            Ok(answer) => match sessions::sum(answer)? {
                Some(sum) => {
                    self.own().note_progress(id, sum, now);
                    Ok(Some(sum))
                }
                // Redis has lost the session; the copy here includes this stream.
                None => {
                    if here.is_some() {
                        self.restore(vec![(id, PendingProgress::default())], Haste::Now).await;
                    }
                    Ok(here)
                }
            },
            Err(failure) if failure.is_unavailability() => {
                if failure.is_unsent() {
                    self.own().owe(id, added, ttl);
                }
                // Of a session that began on another instance, this instance knows only the progress that is added
                // here.
                Ok(Some(here.unwrap_or(added)))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn check_replay(&self, once: ReplayKey, terms: ReplayTerms) -> PortResult<ReplayCheck> {
        replay_guard::used(self.ask(replay_guard::check_replay(&self.link, once, terms), Haste::Now).await?)
    }

    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()> {
        for tag in tags {
            // Fails only when there is no listener here.
            let _ = self.tags.send(tag.clone());
        }
        for step in tags.chunks(STEP * tags::MESSAGE) {
            let answers = self.link.try_all(tags::publish(&self.link, self.me, step), Haste::Now).await;
            answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        }
        Ok(())
    }

    fn invalidations(&self) -> Invalidations {
        self.tags.subscribe()
    }

    async fn ping(&self) -> PortResult<()> {
        self.link.ping().await
    }
}
