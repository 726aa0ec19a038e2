//! `MassLossGuard`: an instance's doubt about its own findings when much content is missing at once.
//!
//! Damage is a property of a copy, so the instance that finds it may report it to all others. Absence depends on the
//! observer: a half-mounted share, or a folder of another day, lacks much at once, and only here. So at most
//! `missing_per_hour` contents are reported as missing within [`PERIOD`]. Beyond that nothing is recorded and no reader
//! is refused on any instance; the storage counts as degraded, and the node reports that.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::ids::ContentHash;

/// The time over which missing contents are counted.
const PERIOD: Duration = Duration::from_secs(3600);

/// Contents found missing, and whether there are too many of them.
#[derive(Debug)]
pub struct MassLossGuard {
    most: usize,
    found: Mutex<MissingContents>,
    held_back: AtomicU64,
}

#[derive(Debug, Default)]
struct MissingContents {
    /// Oldest first; at most as many as may be reported.
    reported: VecDeque<(Instant, ContentHash)>,
    doubted_at: Option<Instant>,
}

impl MassLossGuard {
    pub fn of(most: u32) -> Self {
        Self { most: most as usize, found: Mutex::default(), held_back: AtomicU64::new(0) }
    }

    /// Whether a content may be reported as missing.
    pub(super) fn may_report(&self, hash: ContentHash, now: Instant) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        while found.reported.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= PERIOD) {
            found.reported.pop_front();
        }
        if found.reported.iter().any(|(_, reported)| *reported == hash) {
            return true;
        }
        if found.reported.len() < self.most {
            found.reported.push_back((now, hash));
            return true;
        }
        self.held_back.fetch_add(1, Relaxed);
        let doubted_at = found.doubted_at.replace(now);
        if doubted_at.is_none_or(|at| now.saturating_duration_since(at) >= PERIOD) {
            tracing::error!(
                missing = self.most,
                "more content is missing here than this instance believes: it reports no more of it (verification.missing_per_hour), and \
                 withholds no other content from readers. Check the mounts of the storage"
            );
        }
        false
    }

    /// Whether a report of missing content was held back within the last hour.
    pub fn is_doubting(&self, now: Instant) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.doubted_at.is_some_and(|at| now.saturating_duration_since(at) < PERIOD)
    }

    /// How many reports of missing content were held back.
    pub fn held_back(&self) -> u64 {
        self.held_back.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_is_reported_each_hour() {
        let (doubt, start) = (MassLossGuard::of(2), Instant::now());
        let name = |n| ContentHash::from_bytes([n; 32]);
        assert!(doubt.may_report(name(1), start) && doubt.may_report(name(2), start + PERIOD / 2));
        assert!(!doubt.is_doubting(start + PERIOD / 2));
        assert!(!doubt.may_report(name(3), start + PERIOD / 2));
        assert!(doubt.may_report(name(1), start + PERIOD / 2), "a reported content may be reported again");
        assert!(doubt.is_doubting(start + PERIOD) && doubt.held_back() == 1);
        assert!(doubt.may_report(name(3), start + PERIOD), "the first one is an hour ago");
        assert!(!doubt.may_report(name(4), start + PERIOD));
        assert!(!doubt.is_doubting(start + PERIOD * 3));
    }
}
