//! What an instance knows of slots and sessions by itself, and what Redis must still be told.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use penstock_actors::{
    ids::{ReceiptId, SessionId, UsageId},
    model::SessionProgress,
};

use crate::adapters::in_process::{sessions::Sessions, slots::Slots};

/// Sessions, and slots given back, that Redis must still be told of; what is beyond runs out there by itself. At some 150 bytes
/// each.
pub(super) const UNTOLD: usize = 65_536;

/// What this instance knows by itself.
pub(super) struct Own {
    /// Slots of its running streams.
    pub(super) slots: Slots,
    /// How long the latest of them live without a refresh.
    pub(super) slot_ttl: Duration,
    /// Slots that were given back without Redis knowing.
    pub(super) given_back: Vec<(ReceiptId, UsageId)>,
    /// Sessions that it has seen, as it last saw them.
    pub(super) sessions: Sessions,
    /// What sessions came to without Redis knowing.
    pub(super) untold: HashMap<SessionId, Untold>,
}

/// What a session came to without Redis knowing, and how long it lives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Untold {
    pub(super) progress: SessionProgress,
    pub(super) ttl: Duration,
}

impl Own {
    /// Nothing yet, and at most so many `sessions`.
    pub(super) fn new(sessions: usize) -> Self {
        Self {
            slots: Slots::default(),
            slot_ttl: Duration::ZERO,
            given_back: Vec::new(),
            sessions: Sessions::bounded_to(sessions),
            untold: HashMap::new(),
        }
    }

    pub(super) fn gave_back(&mut self, slot: (ReceiptId, UsageId)) {
        if self.given_back.len() < UNTOLD {
            self.given_back.push(slot);
        }
    }

    pub(super) fn owe(&mut self, id: SessionId, progress: SessionProgress, ttl: Duration) {
        let known = self.untold.contains_key(&id);
        if known || self.untold.len() < UNTOLD {
            let owed = self.untold.entry(id).or_default();
            owed.progress.join(&progress);
            owed.ttl = owed.ttl.max(ttl);
        }
    }

    /// What a session has come to on all instances together.
    pub(super) fn saw_progress(&mut self, id: SessionId, sum: SessionProgress, now: Instant) {
        let expires = self.sessions.remaining(id, now).map(|rest| now + rest);
        if let Some(session) = expires.and_then(|expires| self.sessions.renew(id, now, expires)) {
            session.progress = sum;
        }
    }
}
