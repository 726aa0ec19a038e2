//! How many rows a step of pruning takes, and how long the pause after it is.
//!
//! **[`AdaptiveBatchSize`]**: as many rows as fit into [`AIM`]. How long a row takes depends on the machine, its load, and the
//! length of the events, so no fixed number fits. **[`PruneThrottle`]**: as slow as possible, since foreground work comes first,
//! but no slower than events come in.
//!
//! Arithmetic only: the caller reports how long a step took, and how much a pass left over.

use std::time::Duration;

/// The longest that a step should take. It is a fifth of the 50 ms for which a lock may be held at most, since the next
/// step may be slower, and other work on the processor should hardly notice.
pub const AIM: Duration = Duration::from_millis(10);

/// The shortest pause; a shorter one becomes none.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The fewest rows of a step. Fewer would not shorten a step, since a round trip has a cost too.
const FEWEST: u32 = 10;

/// The number of rows of the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveBatchSize {
    rows: u32,
    most: u32,
}

impl AdaptiveBatchSize {
    /// Begins with few rows, since their cost is not known yet.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self { rows: most.min(100), most }
    }

    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// Reports that a step of `done` rows took this long.
    pub fn stepped(&mut self, done: u64, took: Duration) {
        if took > AIM {
            self.rows = (self.rows / 2).max(FEWEST.min(self.most));
        } else if took < AIM / 3 && done >= u64::from(self.rows) {
            self.rows = self.rows.saturating_mul(2).min(self.most);
        }
    }
}

/// The pause between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneThrottle {
    pause: Duration,
    longest: Duration,
    /// The rows that the last pass left over.
    excess: Option<u64>,
}

impl PruneThrottle {
    /// Begins with the longest pause.
    pub const fn new(longest: Duration) -> Self {
        Self { pause: longest, longest, excess: None }
    }

    pub const fn pause(&self) -> Duration {
        self.pause
    }

    /// Reports how much a pass left over. More than the pass before means that more came in than left, so the pause
    /// gets shorter. It gets longer only when nothing is left over: if it got longer as soon as the rest shrank,
    /// pruning would fall behind again, a little further each time.
    pub fn passed(&mut self, excess: u64) {
        let before = self.excess.replace(excess);
        if excess == 0 {
            self.pause = (self.pause * 2).max(SHORTEST_PAUSE).min(self.longest);
        } else if before.is_some_and(|before| excess > before) {
            let shorter = self.pause / 2;
            self.pause = if shorter < SHORTEST_PAUSE { Duration::ZERO } else { shorter };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stride_finds_the_rows_that_fit_and_stays_within_its_bounds(row_micros in 1_u64..5_000, most in 1_u32..100_000) {
            let mut stride = AdaptiveBatchSize::new(most);
            for _ in 0..40 {
                let took = Duration::from_micros(row_micros * u64::from(stride.rows()));
                stride.stepped(u64::from(stride.rows()), took);
                prop_assert!((1..=most).contains(&stride.rows()));
            }
            let took = Duration::from_micros(row_micros * u64::from(stride.rows()));
            prop_assert!(took <= AIM * 2 || stride.rows() <= FEWEST, "{took:?} for {}", stride.rows());
            prop_assert!(took * 6 >= AIM || stride.rows() == most || stride.rows() <= FEWEST, "{took:?} for {}", stride.rows());
        }
    }

    #[test]
    fn a_pruner_that_falls_behind_rests_less_and_one_that_keeps_up_rests_longest() {
        let longest = Duration::from_millis(200);
        let mut pace = PruneThrottle::new(longest);
        pace.passed(1_000_000);
        assert_eq!(pace.pause(), longest, "a window that was made smaller does not shorten the pause");
        for excess in 1_000_001..1_000_009 {
            pace.passed(excess);
        }
        assert_eq!(pace.pause(), Duration::ZERO);
        pace.passed(1);
        assert_eq!(pace.pause(), Duration::ZERO, "not yet");
        pace.passed(0);
        assert_eq!(pace.pause(), SHORTEST_PAUSE);
        for _ in 0..8 {
            pace.passed(0);
        }
        assert_eq!(pace.pause(), longest);
    }

    proptest! {
        #[test]
        fn the_window_stays_bounded_while_less_comes_in_than_steps_can_remove(
            step_rows in 100_u64..2000,
            share in 0.1_f64..0.7,
        ) {
            // Steps of 10 ms without a pause remove this many rows a second; a share of it comes in.
            let most = step_rows as f64 * 100.0;
            let comes_in = most * share;
            let (mut pace, mut excess, mut highest) = (PruneThrottle::new(Duration::from_millis(500)), 0.0_f64, 0.0_f64);
            for _ in 0..1000 {
                let step = 0.01 + pace.pause().as_secs_f64();
                for _ in 0..20 {
                    excess = (excess + comes_in * step - step_rows as f64).max(0.0);
                }
                highest = highest.max(excess);
                pace.passed(excess as u64);
            }
            prop_assert!(highest < comes_in * 40.0, "what comes in within {:.0} s", highest / comes_in);
        }
    }

    #[test]
    fn steps_that_find_little_say_nothing_of_more() {
        let mut stride = AdaptiveBatchSize::new(10_000);
        stride.stepped(3, Duration::from_millis(1));
        assert_eq!(stride.rows(), 100);
        stride.stepped(100, Duration::from_millis(1));
        assert_eq!(stride.rows(), 200);
        stride.stepped(200, Duration::from_millis(11));
        assert_eq!(stride.rows(), 100);
    }
}
