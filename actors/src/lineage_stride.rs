//! How many rows a step of pruning takes: as many as it can within the time that nobody minds waiting.
//!
//! Only arithmetic: it is told how long a step took. How long a row takes depends on the machine, on what else it does, and
//! on how long the events are, so no number in a configuration would do.

use std::time::Duration;

/// A step should take so long at most: half of the 50 ms for which no lock may be held, since the next one may be slower.
pub const AIM: Duration = Duration::from_millis(25);

/// The fewest rows that a step takes: fewer would not end a step sooner, for a round trip has its price too.
const FEWEST: u32 = 10;

/// Rows of the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stride {
    rows: u32,
    most: u32,
}

impl Stride {
    /// Begins with few, for nobody knows yet how long they take.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self { rows: most.min(100), most }
    }

    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// A step of `done` rows took so long.
    pub fn stepped(&mut self, done: u64, took: Duration) {
        if took > AIM {
            self.rows = (self.rows / 2).max(FEWEST.min(self.most));
        } else if took < AIM / 3 && done >= u64::from(self.rows) {
            self.rows = self.rows.saturating_mul(2).min(self.most);
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
            let mut stride = Stride::new(most);
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
    fn steps_that_find_little_say_nothing_of_more() {
        let mut stride = Stride::new(10_000);
        stride.stepped(3, Duration::from_millis(1));
        assert_eq!(stride.rows(), 100);
        stride.stepped(100, Duration::from_millis(1));
        assert_eq!(stride.rows(), 200);
        stride.stepped(200, Duration::from_millis(26));
        assert_eq!(stride.rows(), 100);
    }
}
