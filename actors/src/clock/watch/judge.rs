//! Whether a time can be right. Arithmetic, without a clock of its own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::WatchSettings;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    wall: Timestamp,
    uptime: Duration,
}

impl Anchor {
    /// By how much the wall clock has gained on the uptime since.
    fn gained(&self, now: Self) -> SignedDuration {
        let passed = now.uptime.saturating_sub(self.uptime);
        now.wall.duration_since(self.wall) - SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX)
    }
}

/// The history of the times that an instance has judged.
#[derive(Debug, Default)]
pub(super) struct ClockJudge {
    /// The last time that was right.
    right: Option<Anchor>,
    /// When the current doubt began.
    doubted: Option<Anchor>,
}

impl ClockJudge {
    /// Judges a time. Returns by how much it is later than can be proven, or `None` when it is right. `trusted` is the
    /// last time that an instance accepted as right, as the database has it.
    ///
    /// A time that is too early is accepted as right: it makes removal and expiry later, never sooner.
    pub(super) fn judge(
        &mut self,
        wall: Timestamp,
        uptime: Duration,
        trusted: Option<Timestamp>,
        settings: &WatchSettings,
    ) -> Option<SignedDuration> {
        let now = Anchor { wall, uptime };
        let tolerance = signed(settings.max_skew);
        let since_trusted = trusted.map(|trusted| wall.duration_since(trusted));
        // Another instance has just shown it, or an operator confirmed it.
        let is_confirmed = since_trusted.is_some_and(|since| since <= tolerance);
        let ahead = match (&self.right, since_trusted) {
            (Some(right), _) => right.gained(now) - tolerance,
            // All instances may have been stopped for this long.
            (None, Some(since)) => since - signed(settings.longest_pause),
            (None, None) => SignedDuration::ZERO,
        };
        if is_confirmed || ahead <= SignedDuration::ZERO || self.has_been_steady(now, settings) {
            *self = Self { right: Some(now), doubted: None };
            return None;
        }
        Some(ahead)
    }

    /// Whether the clock has run steadily for long enough since the doubt began.
    fn has_been_steady(&mut self, now: Anchor, settings: &WatchSettings) -> bool {
        match self.doubted {
            Some(since) if since.gained(now).abs() <= signed(settings.max_skew) => {
                now.uptime.saturating_sub(since.uptime) >= settings.patience
            }
            // The doubt began just now, or the clock was set once more.
            _ => {
                self.doubted = Some(now);
                false
            }
        }
    }
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::memory_time::WATCH;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    /// An instance, and the database in which it records each time that it accepts as right.
    #[derive(Default)]
    struct Scene {
        judge: ClockJudge,
        trusted: Option<Timestamp>,
    }

    impl Scene {
        /// Whether the wall clock's time is accepted as right after this many seconds of real time.
        fn trusts(&mut self, wall: u64, real: u64) -> bool {
            let at = Timestamp::from_second(1_800_000_000 + i64::try_from(wall).expect("small")).expect("a time");
            let ahead = self.judge.judge(at, Duration::from_secs(real), self.trusted, &WATCH);
            if ahead.is_none() {
                self.trusted = Some(at);
            }
            ahead.is_none()
        }

        fn restarts(&mut self) {
            self.judge = ClockJudge::default();
        }
    }

    #[test]
    fn a_clock_that_goes_with_real_time_is_right() {
        let mut scene = Scene::default();
        assert!(scene.trusts(0, 0), "a database that no instance has used has nothing to lose");
        assert!(scene.trusts(60, 60));
        assert!(scene.trusts(60 + 90 * DAY, 60 + 90 * DAY), "however long the machine was asleep");
        assert!(scene.trusts(60 + 90 * DAY + 250, 60 + 90 * DAY), "a small step is a time server's");
    }

    #[test]
    fn a_clock_that_leaps_while_the_instance_runs_is_in_doubt_until_it_comes_back() {
        let mut scene = Scene::default();
        assert!(scene.trusts(0, 0));
        assert!(!scene.trusts(HOUR + 60, 60));
        assert!(!scene.trusts(HOUR + 120, 120));
        assert!(scene.trusts(180, 180));
    }

    #[test]
    fn a_clock_that_is_far_ahead_at_the_start_is_in_doubt() {
        for ahead in [31 * DAY, 800 * DAY] {
            let mut scene = Scene::default();
            assert!(scene.trusts(0, 0));
            scene.restarts();
            assert!(!scene.trusts(ahead, 60));
            assert!(!scene.trusts(ahead + 40, 100));
            scene.restarts();
            assert!(scene.trusts(200, 200), "the right time again");
        }
    }

    #[test]
    fn instances_that_were_stopped_over_a_weekend_are_not_in_doubt() {
        let mut scene = Scene::default();
        assert!(scene.trusts(0, 0));
        scene.restarts();
        assert!(scene.trusts(3 * DAY, 3 * DAY));
    }

    #[test]
    fn after_a_day_of_steady_time_a_clock_is_believed() {
        let mut scene = Scene::default();
        assert!(scene.trusts(0, 0));
        scene.restarts();
        assert!(!scene.trusts(31 * DAY, 60));
        assert!(!scene.trusts(32 * DAY - 60, DAY));
        assert!(!scene.trusts(40 * DAY, DAY + 30), "it was set again: the day begins anew");
        assert!(!scene.trusts(41 * DAY - 60, 2 * DAY - 60));
        assert!(scene.trusts(41 * DAY, 2 * DAY + 30));
        assert!(scene.trusts(41 * DAY + 60, 2 * DAY + 90));
    }

    #[test]
    fn what_another_instance_or_an_operator_has_confirmed_is_right() {
        let mut scene = Scene::default();
        assert!(scene.trusts(0, 0));
        assert!(!scene.trusts(31 * DAY, 60));
        scene.trusted = scene.trusted.map(|at| at + Duration::from_secs(31 * DAY));
        assert!(scene.trusts(31 * DAY + 60, 120));
        assert!(scene.trusts(31 * DAY + 120, 180));
    }

    #[test]
    fn a_clock_that_goes_back_is_trusted_and_one_that_leaps_forward_again_is_not() {
        let mut scene = Scene::default();
        assert!(scene.trusts(31 * DAY, 0), "a database that is new, at a wrong time");
        assert!(scene.trusts(0, 60));
        assert!(!scene.trusts(31 * DAY, 120), "what was trusted once, wrongly, is forgotten");
    }
}
