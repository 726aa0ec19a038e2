//! This instance's own record of slots and sessions, and the updates that Redis still has to get.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use penstock_actors::{ids::SessionId, model::SessionProgress, ports::StreamSlot};

use crate::adapters::in_process::{sessions::Sessions, slots::Slots};

/// Sessions, and released slots, that Redis still has to get; those beyond this number expire in Redis by themselves.
/// About 150 bytes each.
pub(super) const UNTOLD: usize = 65_536;

/// This instance's own record.
pub(super) struct Own {
    /// Slots of its running streams.
    pub(super) slots: Slots,
    /// How long the newest of them live without a refresh.
    pub(super) slot_ttl: Duration,
    /// Slots that were released while Redis was down.
    pub(super) given_back: Vec<StreamSlot>,
    /// Sessions that it has seen, in their last known state.
    pub(super) sessions: Sessions,
    /// Progress of sessions that Redis has not received.
    pub(super) unsent: HashMap<SessionId, PendingProgress>,
}

/// Progress of a session that Redis has not received, and the session's time to live.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PendingProgress {
    pub(super) progress: SessionProgress,
    pub(super) ttl: Duration,
}

impl Own {
    /// An empty record for at most `sessions` sessions.
    pub(super) fn new(sessions: usize) -> Self {
        Self {
            slots: Slots::default(),
            slot_ttl: Duration::ZERO,
            given_back: Vec::new(),
            sessions: Sessions::bounded_to(sessions),
            unsent: HashMap::new(),
        }
    }

    pub(super) fn gave_back(&mut self, slot: StreamSlot) {
        if self.given_back.len() < UNTOLD {
            self.given_back.push(slot);
        }
    }

    pub(super) fn owe(&mut self, id: SessionId, progress: SessionProgress, ttl: Duration) {
        let known = self.unsent.contains_key(&id);
        if known || self.unsent.len() < UNTOLD {
            let owed = self.unsent.entry(id).or_default();
            owed.progress.join(&progress);
            owed.ttl = owed.ttl.max(ttl);
        }
    }

    /// The progress of a session on all instances together.
    pub(super) fn note_progress(&mut self, id: SessionId, sum: SessionProgress, now: Instant) {
        let expires = self.sessions.remaining(id, now).map(|rest| now + rest);
        if let Some(session) = expires.and_then(|expires| self.sessions.renew(id, now, expires)) {
            session.progress = sum;
        }
    }
}
