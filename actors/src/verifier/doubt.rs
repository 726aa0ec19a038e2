//! `Doubt`: what an instance thinks of itself when it finds much missing at once.
//!
//! Damage is a property of a copy, and whoever finds it may tell all others. An absence depends on where one looks: a share that is
//! half mounted, or a folder of another day, lacks much at once, and only here. So no more than so many contents are told to be missing
//! within [`PERIOD`]. Beyond that nothing is put down and nobody's readers are refused; the storage is degraded, and says so.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::ids::ContentHash;

/// Missing contents are counted over this time.
const PERIOD: Duration = Duration::from_secs(3600);

/// Contents that were found missing, and whether there are too many of them.
#[derive(Debug)]
pub struct Doubt {
    most: usize,
    found: Mutex<Found>,
    held_back: AtomicU64,
}

#[derive(Debug, Default)]
struct Found {
    /// The oldest first; at most as many as are told.
    told: VecDeque<(Instant, ContentHash)>,
    doubted_at: Option<Instant>,
}

impl Doubt {
    pub fn of(most: u32) -> Self {
        Self { most: most as usize, found: Mutex::default(), held_back: AtomicU64::new(0) }
    }

    /// Whether it may be told that a content is missing.
    pub(super) fn may_tell(&self, hash: ContentHash, now: Instant) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        while found.told.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= PERIOD) {
            found.told.pop_front();
        }
        if found.told.iter().any(|(_, told)| *told == hash) {
            return true;
        }
        if found.told.len() < self.most {
            found.told.push_back((now, hash));
            return true;
        }
        self.held_back.fetch_add(1, Relaxed);
        let doubted_at = found.doubted_at.replace(now);
        if doubted_at.is_none_or(|at| now.saturating_duration_since(at) >= PERIOD) {
            tracing::error!(
                missing = self.most,
                "more content is missing here than this instance believes: it tells of no more (verification.missing_per_hour), and \
                 keeps nothing else from readers for it. Look at what is mounted"
            );
        }
        false
    }

    /// Whether something that seemed to be missing was held back within the last hour.
    pub fn is_doubting(&self, now: Instant) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.doubted_at.is_some_and(|at| now.saturating_duration_since(at) < PERIOD)
    }

    /// How often it was held back that a content seems to be missing.
    pub fn held_back(&self) -> u64 {
        self.held_back.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_told_of_within_an_hour_and_again_after_it() {
        let (doubt, start) = (Doubt::of(2), Instant::now());
        let name = |n| ContentHash::from_bytes([n; 32]);
        assert!(doubt.may_tell(name(1), start) && doubt.may_tell(name(2), start + PERIOD / 2));
        assert!(!doubt.is_doubting(start + PERIOD / 2));
        assert!(!doubt.may_tell(name(3), start + PERIOD / 2));
        assert!(doubt.may_tell(name(1), start + PERIOD / 2), "what was told may be told again");
        assert!(doubt.is_doubting(start + PERIOD) && doubt.held_back() == 1);
        assert!(doubt.may_tell(name(3), start + PERIOD), "the first one is an hour ago");
        assert!(!doubt.may_tell(name(4), start + PERIOD));
        assert!(!doubt.is_doubting(start + PERIOD * 3));
    }
}
