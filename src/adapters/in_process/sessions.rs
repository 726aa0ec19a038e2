//! Sessions: a bounded map in the order of their last use.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use penstock_actors::{ids::SessionId, model::Session};

/// Sessions by id, at most `bound` of them.
#[derive(Debug)]
pub(in crate::adapters) struct Sessions {
    bound: usize,
    by_id: HashMap<SessionId, StoredSession>,
    /// Ids by the turn of their last use; as many as there are sessions.
    by_use: BTreeMap<u64, SessionId>,
    turn: u64,
}

#[derive(Debug)]
struct StoredSession {
    session: Session,
    expires: Instant,
    used: u64,
}

impl Sessions {
    pub(in crate::adapters) fn bounded_to(bound: usize) -> Self {
        Self { bound: bound.max(1), by_id: HashMap::new(), by_use: BTreeMap::new(), turn: 0 }
    }

    /// Stores a session, in place of the least recently used one if the map is full.
    pub(in crate::adapters) fn put(&mut self, session: Session, expires: Instant) {
        let id = session.session_id;
        self.remove(id);
        while self.by_id.len() >= self.bound
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_id.remove(&oldest);
        }
        self.turn += 1;
        self.by_use.insert(self.turn, id);
        self.by_id.insert(id, StoredSession { session, expires, used: self.turn });
    }

    /// Reads a session. This counts as a use but does not extend its life.
    pub(in crate::adapters) fn get(&mut self, id: SessionId, now: Instant) -> Option<&Session> {
        self.touch(id, now).map(|kept| &kept.session)
    }

    /// How long a session lives if it is not used again.
    pub(in crate::adapters) fn remaining(&self, id: SessionId, now: Instant) -> Option<Duration> {
        self.by_id.get(&id).map(|kept| kept.expires.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// Reads a session and lets it live until `expires`.
    pub(in crate::adapters) fn renew(&mut self, id: SessionId, now: Instant, expires: Instant) -> Option<&mut Session> {
        let kept = self.touch(id, now)?;
        kept.expires = expires;
        Some(&mut kept.session)
    }

    fn touch(&mut self, id: SessionId, now: Instant) -> Option<&mut StoredSession> {
        if self.by_id.get(&id)?.expires <= now {
            self.remove(id);
            return None;
        }
        let kept = self.by_id.get_mut(&id)?;
        self.turn += 1;
        self.by_use.remove(&kept.used);
        self.by_use.insert(self.turn, id);
        kept.used = self.turn;
        Some(kept)
    }

    fn remove(&mut self, id: SessionId) {
        if let Some(kept) = self.by_id.remove(&id) {
            self.by_use.remove(&kept.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_actors::{
        ids::{ContentHash, ReceiptId},
        model::SessionProgress,
    };

    fn session() -> Session {
        Session {
            session_id: SessionId::random(),
            receipt_id: ReceiptId::random(),
            content_hash: ContentHash::from_bytes([0; 32]),
            size_bytes: 1,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            progress: SessionProgress::default(),
        }
    }

    #[test]
    fn when_there_is_no_room_the_least_recently_used_session_goes() {
        let (mut sessions, now) = (Sessions::bounded_to(2), Instant::now());
        let later = now + Duration::from_secs(1);
        let [first, second, third] = [session(), session(), session()];
        sessions.put(first.clone(), later);
        sessions.put(second.clone(), later);
        assert!(sessions.get(first.session_id, now).is_some());
        sessions.put(third.clone(), later);
        assert!(sessions.get(second.session_id, now).is_none());
        assert!(sessions.get(first.session_id, now).is_some());
        assert!(sessions.get(third.session_id, now).is_some());
    }

    #[test]
    fn both_indexes_stay_of_one_size_whatever_happens() {
        let (mut sessions, now) = (Sessions::bounded_to(4), Instant::now());
        for round in 0_u64..50 {
            let session = session();
            sessions.put(session.clone(), now + Duration::from_secs(round % 3));
            sessions.put(session.clone(), now + Duration::from_secs(round % 3));
            sessions.get(session.session_id, now + Duration::from_secs(1));
            sessions.renew(session.session_id, now, now);
            assert_eq!(sessions.by_id.len(), sessions.by_use.len());
            assert!(sessions.by_id.len() <= 4);
        }
    }
}
