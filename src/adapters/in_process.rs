//! Shared state in this process: the only instance that shares it is this one.
//!
//! Everything is in memory behind three locks, which are held for a few lines and never across an await, so the futures
//! complete at their first poll. **Bound:** sessions by number, the least recently used are dropped first; stream slots
//! by the running streams, which admission bounds, and by their time to live; one-time uses by the limit of the caller.
//! Time is the given monotonic clock.

pub(super) mod replay_guard;
pub(super) mod sessions;
pub(super) mod slots;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock,
    ids::{ReceiptId, SessionId},
    model::{Session, SessionProgress},
    ports::{
        InvalidationBus, Invalidations, PortResult, ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms, SessionStore,
        SharedState, SlotGrant, StreamSlot, StreamSlots, Tag,
    },
};
use tokio::sync::broadcast;

use replay_guard::ReplayMemory;
use sessions::Sessions;
use slots::Slots;

/// Sessions kept unless [`InProcessState::bounded_to`] sets another number: about 30 MB when full.
pub const SESSIONS: usize = 100_000;

/// How many tags a receiver may lag. If it lags more, its channel reports that, and the receiver must treat everything
/// as invalidated; at about 40 bytes per tag, that is cheaper to accept than to avoid.
pub(super) const TAGS: usize = 1024;

/// Stream slots, sessions and invalidation for one instance.
pub struct InProcessState {
    clock: Arc<dyn Clock>,
    slots: Mutex<Slots>,
    sessions: Mutex<Sessions>,
    uses: Mutex<ReplayMemory>,
    tags: broadcast::Sender<Tag>,
}

impl InProcessState {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self {
            clock,
            slots: Mutex::default(),
            sessions: Mutex::new(Sessions::bounded_to(SESSIONS)),
            uses: Mutex::new(ReplayMemory::since(now)),
            tags: broadcast::Sender::new(TAGS),
        }
    }

    /// Keeps at most this many sessions.
    #[must_use]
    pub fn bounded_to(self, sessions: usize) -> Self {
        Self { sessions: Mutex::new(Sessions::bounded_to(sessions)), ..self }
    }
}

/// Takes a lock even after a panic of its holder: every change under it is complete before any code can panic.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl StreamSlots for InProcessState {
    async fn take_slot(&self, slot: &StreamSlot, limit: u32, ttl: Duration) -> PortResult<SlotGrant> {
        let now = self.clock.monotonic();
        Ok(held(&self.slots).take(slot, limit, now, now + ttl))
    }

    async fn refresh_slots(&self, slots: &[StreamSlot], ttl: Duration) -> PortResult<()> {
        let now = self.clock.monotonic();
        let mut held = held(&self.slots);
        for slot in slots {
            held.refresh(slot, now, now + ttl);
        }
        Ok(())
    }

    async fn release_slot(&self, slot: &StreamSlot) -> PortResult<()> {
        held(&self.slots).release(slot);
        Ok(())
    }

    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32> {
        Ok(held(&self.slots).count(receipt, self.clock.monotonic()))
    }
}

#[async_trait]
impl SessionStore for InProcessState {
    async fn put_session(&self, session: &Session, ttl: Duration) -> PortResult<()> {
        let expires = self.clock.monotonic() + ttl;
        held(&self.sessions).put(session.clone(), expires);
        Ok(())
    }

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>> {
        Ok(held(&self.sessions).get(id, self.clock.monotonic()).cloned())
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
        Ok(held(&self.sessions).renew(id, now, now + ttl).map(|session| {
            session.progress.add(bytes, position, at);
            session.progress
        }))
    }
}

#[async_trait]
impl ReplayGuard for InProcessState {
    async fn check_replay(&self, once: ReplayKey, terms: ReplayTerms) -> PortResult<ReplayCheck> {
        let now = self.clock.now();
        held(&self.uses).once(once, terms, now)
    }
}

#[async_trait]
impl InvalidationBus for InProcessState {
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()> {
        for tag in tags {
            // Fails only without a listener, and then nothing is cached.
            let _ = self.tags.send(tag.clone());
        }
        Ok(())
    }

    fn reaches_others(&self) -> bool {
        false
    }

    fn invalidations(&self) -> Invalidations {
        self.tags.subscribe()
    }
}

#[async_trait]
impl SharedState for InProcessState {
    async fn ping(&self) -> PortResult<()> {
        Ok(())
    }
}
