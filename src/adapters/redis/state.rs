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
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use penstock_actors::{
    clock::Clock,
    ids::SessionId,
    ports::{PortResult, SharedState, StreamSlot, Tag},
};
use redis::Value;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use self::own::{Own, PendingProgress};
use super::{
    error::RedisFailure,
    link::{Haste, RedisLink},
    script::Call,
};
use crate::adapters::in_process::TAGS;

/// Calls that are sent together when state is put back: a part of the queue, so that streams make progress meanwhile.
const STEP: usize = 256;

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
        let (given_back, unsent) = {
            let mut own = self.own();
            (std::mem::take(&mut own.given_back), std::mem::take(&mut own.unsent))
        };
        if given_back.is_empty() && unsent.is_empty() {
            return;
        }
        tracing::debug!(slots = given_back.len(), sessions = unsent.len(), "sending Redis the updates that it missed");
        for step in given_back.chunks(STEP) {
            let calls = step.iter().map(|slot| slots::release(&self.link, slot)).collect();
            let answers = self.link.try_all(calls, haste).await;
            let mut own = self.own();
            for (&slot, answer) in step.iter().zip(answers) {
                if answer.is_err_and(|failure| failure.is_unavailability()) {
                    own.gave_back(slot);
                }
            }
        }
        self.restore(unsent.into_iter().collect(), haste).await;
    }

    /// Puts slots into Redis that this instance holds, unless they have ended.
    async fn hold(&self, mut slots: Vec<StreamSlot>, ttl: Duration) {
        slots.sort_unstable();
        let receipts: Vec<_> = slots.chunk_by(|one, other| one.receipt == other.receipt).collect();
        for step in receipts.chunks(STEP) {
            let answers = {
                // Under the lock, so that a slot that is released from now on is released after this call.
                let (own, now) = (self.own(), self.clock.monotonic());
                let calls = step.iter().filter_map(|slots| {
                    let held: Vec<_> = slots.iter().filter(|slot| own.slots.holds(slot, now)).collect();
                    (!held.is_empty()).then(|| slots::hold(&self.link, slots[0].receipt, &held, ttl))
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
    async fn let_go(&self, mut slots: Vec<StreamSlot>) {
        {
            let (own, now) = (self.own(), self.clock.monotonic());
            slots.retain(|slot| !own.slots.holds(slot, now));
        }
        for step in slots.chunks(STEP) {
            let calls = step.iter().map(|slot| slots::release(&self.link, slot)).collect();
            for failure in self.link.try_all(calls, Haste::Later).await.into_iter().filter_map(Result::err) {
                tracing::debug!(%failure, "a stream slot was not released in Redis; it expires there");
            }
        }
    }

    /// Puts sessions into Redis, with the progress that Redis has not received.
    async fn restore(&self, mut sessions: Vec<(SessionId, PendingProgress)>, haste: Haste) {
        let now = self.clock.monotonic();
        // For a session that is no longer kept here, only the added progress can be sent.
        sessions.retain(|(id, unsent)| unsent.progress.streams > 0 || self.own().sessions.get(*id, now).is_some());
        for step in sessions.chunks(STEP) {
            let now = self.clock.monotonic();
            let calls = {
                let mut own = self.own();
                let call = |(id, unsent): &(SessionId, PendingProgress)| {
                    let ttl = own.sessions.remaining(*id, now).unwrap_or(unsent.ttl);
                    match own.sessions.get(*id, now) {
                        Some(session) => sessions::restore(&self.link, session, &unsent.progress, ttl),
                        None => sessions::add(&self.link, *id, &unsent.progress, ttl),
                    }
                };
                step.iter().map(call).collect()
            };
            let answers = self.link.try_all(calls, haste).await;
            let mut own = self.own();
            for ((id, unsent), answer) in step.iter().zip(answers) {
                match answer.map(sessions::sum) {
                    Ok(Ok(Some(sum))) => own.note_progress(*id, sum, now),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "Redis refused to restore a session; its progress while Redis was down may be missing there");
                    }
                    Err(failure) if failure.is_unsent() => own.owe(*id, unsent.progress, unsent.ttl),
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
    async fn ping(&self) -> PortResult<()> {
        self.link.ping().await
    }
}
