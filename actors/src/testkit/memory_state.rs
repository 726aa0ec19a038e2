//! Shared state in memory, with faults by script.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::script::Script;
use crate::{
    ids::{ReceiptId, SessionId, UsageId},
    model::{Session, SessionMark, SessionProgress},
    ports::{
        InvalidationBus, Invalidations, PortResult, ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms, SessionStore,
        SharedState, SlotGrant, StreamSlot, StreamSlots, Tag,
    },
};

/// Shared state in memory. Slots, sessions and uses do not expire, so that a forgotten one shows.
pub struct MemoryState {
    /// Its scripted faults.
    pub script: Script,
    slots: Mutex<HashMap<ReceiptId, HashMap<UsageId, SessionMark>>>,
    sessions: Mutex<HashMap<SessionId, Session>>,
    uses: Mutex<HashSet<[u8; 32]>>,
    tags: broadcast::Sender<Tag>,
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::following(64)
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryState {
    /// A state whose receivers of invalidations may lag by this many tags.
    pub fn following(tags: usize) -> Self {
        let script = Script::default();
        Self {
            script,
            slots: Mutex::default(),
            sessions: Mutex::default(),
            uses: Mutex::default(),
            tags: broadcast::Sender::new(tags),
        }
    }

    /// Slots taken, of all receipts.
    pub fn slots_taken(&self) -> usize {
        held(&self.slots).values().map(HashMap::len).sum()
    }
}

#[async_trait]
impl StreamSlots for MemoryState {
    async fn take_slot(&self, slot: &StreamSlot, limit: u32, _: Duration) -> PortResult<SlotGrant> {
        let work = || {
            let mut slots = held(&self.slots);
            let taken = slots.entry(slot.receipt).or_default();
            let active = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            if active >= limit && !taken.contains_key(&slot.stream) {
                let of_session = taken.iter().filter(|(_, session)| **session == slot.session);
                let same_session = of_session.map(|(stream, _)| *stream).min();
                return Ok(SlotGrant::Full { active, same_session });
            }
            taken.insert(slot.stream, slot.session);
            Ok(SlotGrant::Taken)
        };
        self.script.play("take_slot", 1, work).await
    }

    async fn refresh_slots(&self, slots: &[StreamSlot], _: Duration) -> PortResult<()> {
        self.script.play("refresh_slots", slots.len(), || Ok(())).await
    }

    async fn release_slot(&self, slot: &StreamSlot) -> PortResult<()> {
        let work = || {
            held(&self.slots).entry(slot.receipt).or_default().remove(&slot.stream);
            Ok(())
        };
        self.script.play("release_slot", 1, work).await
    }

    async fn slots(&self, receipt: ReceiptId) -> PortResult<u32> {
        Ok(held(&self.slots).get(&receipt).map_or(0, |taken| taken.len() as u32))
    }
}

#[async_trait]
impl SessionStore for MemoryState {
    async fn put_session(&self, session: &Session, _: Duration) -> PortResult<()> {
        held(&self.sessions).insert(session.session_id, session.clone());
        Ok(())
    }

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>> {
        Ok(held(&self.sessions).get(&id).cloned())
    }

    async fn add_progress(
        &self,
        id: SessionId,
        bytes: u64,
        position: u64,
        at: Timestamp,
        _: Duration,
    ) -> PortResult<Option<SessionProgress>> {
        let work = || {
            Ok(held(&self.sessions).get_mut(&id).map(|session| {
                session.progress.add(bytes, position, at);
                session.progress
            }))
        };
        self.script.play("add_progress", 1, work).await
    }
}

#[async_trait]
impl ReplayGuard for MemoryState {
    async fn check_replay(&self, once: ReplayKey, _: ReplayTerms) -> PortResult<ReplayCheck> {
        let work = || Ok(if held(&self.uses).insert(once.name) { ReplayCheck::First } else { ReplayCheck::Again });
        self.script.play("use_once", 1, work).await
    }
}

#[async_trait]
impl InvalidationBus for MemoryState {
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()> {
        for tag in tags {
            // Fails only when there is no receiver.
            let _ = self.tags.send(tag.clone());
        }
        Ok(())
    }

    fn invalidations(&self) -> Invalidations {
        self.tags.subscribe()
    }
}

#[async_trait]
impl SharedState for MemoryState {
    async fn ping(&self) -> PortResult<()> {
        self.script.play("ping", 1, || Ok(())).await
    }
}
