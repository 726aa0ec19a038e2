//! The known progress of a replica.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Remembered positions of the primary's log.
const REMEMBERED: usize = 64;

/// At most this many positions are remembered per `max_lag`, so that all of them cover twice that time, however often a
/// check runs.
const DENSITY: u32 = 30;

/// The positions of the primary's log, with their times.
#[derive(Debug)]
pub(super) struct PrimaryLog {
    apart: Duration,
    /// In the order of time, and so of position.
    known: VecDeque<(Instant, i64)>,
}

impl PrimaryLog {
    pub(super) fn spanning(max_lag: Duration) -> Self {
        Self { apart: max_lag / DENSITY, known: VecDeque::with_capacity(REMEMBERED) }
    }

    /// The log was at `position` at `asked` or later: every commit before `asked` lies before it.
    pub(super) fn note(&mut self, asked: Instant, position: i64) {
        // A log that went back is another server's, after a failover: earlier positions mean nothing there.
        if self.known.back().is_some_and(|(_, last)| *last > position) {
            self.known.clear();
        }
        let last_but_one = self.known.len().checked_sub(2).map(|index| self.known[index].0);
        if last_but_one.is_some_and(|moment| asked.saturating_duration_since(moment) < self.apart) {
            self.known.pop_back();
        } else if self.known.len() == REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back((asked, position));
    }

    /// The first remembered moment. A replica that does not hold it lags by at least its age.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.known.front().map(|(moment, _)| *moment)
    }

    /// The latest remembered moment of which a replica that has replayed up to `position` holds every commit.
    pub(super) fn held_by(&self, position: i64) -> Option<Instant> {
        self.known.iter().rev().find(|(_, known)| *known <= position).map(|(moment, _)| *moment)
    }
}

/// The moment up to which a replica is known to hold every commit.
#[derive(Debug, Default)]
pub(super) struct ReplicaFreshness {
    held: Mutex<FreshUntil>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FreshUntil {
    until: Option<Instant>,
    /// The result of the last check.
    fit: bool,
}

impl ReplicaFreshness {
    /// Whether a read that must see every commit until `pinned` may be served.
    pub(super) fn serves(&self, now: Instant, max_lag: Duration, pinned: Option<Instant>) -> bool {
        let known = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        known.until.is_some_and(|until| {
            now.saturating_duration_since(until) <= max_lag && pinned.is_none_or(|pinned| until > pinned)
        })
    }

    /// Notes the result of a check. Returns whether it changed whether the replica serves.
    pub(super) fn note(&self, until: Option<Instant>, fit: bool) -> bool {
        let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = known.fit != fit;
        *known = FreshUntil { until, fit };
        is_news
    }

    /// It failed a read: no more reads until a check succeeds.
    pub(super) fn forget(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).until = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_replica_lags_behind_an_idle_primary() {
        let (mut log, start) = (PrimaryLog::spanning(SECOND), Instant::now());
        for second in 0..100 {
            log.note(start + SECOND * second, 7);
        }
        assert_eq!(log.held_by(7), Some(start + SECOND * 99));
        assert_eq!(log.held_by(6), None);
    }

    #[test]
    fn a_log_that_starts_anew_forgets_the_old_one() {
        let (mut log, start) = (PrimaryLog::spanning(SECOND), Instant::now());
        log.note(start, 100);
        log.note(start + SECOND, 50);
        assert_eq!(log.held_by(60), Some(start + SECOND));
        assert_eq!(log.held_by(49), None);
    }

    #[test]
    fn a_replica_serves_until_it_is_too_old_or_a_change_is_newer_or_it_fails() {
        let (fresh, start) = (ReplicaFreshness::default(), Instant::now());
        assert!(!fresh.serves(start, SECOND, None), "nothing is known yet");
        assert!(fresh.note(Some(start), true), "it serves");
        assert!(!fresh.note(Some(start), true), "no news");
        assert!(fresh.serves(start + SECOND, SECOND, None));
        assert!(!fresh.serves(start + SECOND * 2, SECOND, None));
        assert!(!fresh.serves(start, SECOND, Some(start)));
        assert!(fresh.note(Some(start), false));
        fresh.forget();
        assert!(!fresh.serves(start, SECOND, None));
    }

    #[test]
    fn however_often_it_is_checked_twice_the_lag_and_the_last_moment_are_remembered() {
        let (mut log, start) = (PrimaryLog::spanning(SECOND), Instant::now());
        for tick in 0..100_000_u32 {
            log.note(start + SECOND / 1000 * tick, i64::from(tick));
        }
        assert_eq!(log.held_by(99_999), Some(start + SECOND / 1000 * 99_999));
        assert!(log.oldest().is_some_and(|oldest| oldest < start + SECOND * 98));
        assert!(log.known.len() <= REMEMBERED);
    }

    proptest! {
        /// Whatever the primary wrote between the checks: a replica is only reported to hold a moment that it has
        /// replayed, and of the remembered moments that one is the latest.
        #[test]
        fn no_replica_is_said_to_hold_what_it_has_not_replayed(
            steps in prop::collection::vec((0..1000_i64, 1..200_u32), 1..300), replayed in 0..150_000_i64,
        ) {
            let (mut log, mut moment, mut position) = (PrimaryLog::spanning(SECOND), Instant::now(), 0);
            let mut all = Vec::new();
            for (step, millis) in steps {
                (moment, position) = (moment + SECOND / 1000 * millis, position + step);
                all.push((moment, position));
                log.note(moment, position);
            }
            match log.held_by(replayed) {
                Some(held) => prop_assert!(all.iter().any(|known| *known == (held, known.1) && known.1 <= replayed)),
                None => prop_assert!(log.known.iter().all(|(_, known)| *known > replayed)),
            }
            prop_assert_eq!(log.held_by(position), Some(moment), "the last check counts");
        }
    }
}
