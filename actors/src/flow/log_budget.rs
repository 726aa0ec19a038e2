//! A bound on log lines about what may fail thousands of times a second.
//!
//! When a dependency is away, or more clients come than the node serves, each request fails in the same way. A line for each of them
//! tells nothing new, and writing them takes the time in which the node should refuse.

use std::time::{Duration, Instant};

/// Lines in a second: enough to see different causes side by side.
const LINES: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);

/// The lines that may still be written in this second.
#[derive(Debug, Default)]
pub struct LogBudget {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LogBudget {
    /// Whether a line may be written now: if so, the number of lines that were left out since the one before.
    pub fn spend(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= SECOND) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written == LINES {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_ten_lines_and_the_next_one_counts_those_that_were_left_out() {
        let (mut budget, start) = (LogBudget::default(), Instant::now());
        let written = (0..1000).filter(|_| budget.spend(start) == Some(0)).count();
        assert_eq!(written, 10);
        assert_eq!(budget.spend(start + SECOND), Some(990));
        assert_eq!(budget.spend(start + SECOND), Some(0));
    }
}
