//! How often an actor may die, and how long it stays dead. Arithmetic only.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The deaths of the last while.
#[derive(Debug)]
pub(super) struct Intensity {
    most: usize,
    within: Duration,
    first_pause: Duration,
    longest_pause: Duration,
    deaths: VecDeque<Instant>,
}

impl Intensity {
    pub(super) const fn new(most: usize, within: Duration, first_pause: Duration, longest_pause: Duration) -> Self {
        Self { most, within, first_pause, longest_pause, deaths: VecDeque::new() }
    }

    /// Notes a death. Returns the pause before the next life; `None` when there is to be none.
    pub(super) fn died(&mut self, now: Instant) -> Option<Duration> {
        while self.deaths.front().is_some_and(|&at| now.saturating_duration_since(at) >= self.within) {
            self.deaths.pop_front();
        }
        let before = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX);
        self.deaths.push_back(now);
        let doubled = 2_u32.saturating_pow(before);
        (self.deaths.len() < self.most).then(|| self.first_pause.saturating_mul(doubled).min(self.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_and_the_last_death_is_final() {
        let mut intensity = Intensity::new(5, 60 * SECOND, SECOND, 3 * SECOND);
        let now = Instant::now();
        let pauses: Vec<_> = (0..6).map(|_| intensity.died(now)).collect();
        assert_eq!(pauses, [Some(SECOND), Some(2 * SECOND), Some(3 * SECOND), Some(3 * SECOND), None, None]);
    }

    #[test]
    fn a_death_is_forgotten_after_a_while() {
        let mut intensity = Intensity::new(2, 60 * SECOND, SECOND, 3 * SECOND);
        let now = Instant::now();
        for round in 0..9 {
            assert_eq!(intensity.died(now + round * 60 * SECOND), Some(SECOND));
        }
    }
}
