//! How long something took, counted in steps of time: what a histogram is made of.
//!
//! An actor keeps it beside its counters, and knows no exporter. All timings have the same [`STEPS`], so that they can be compared.
//!
//! **Bound.** One number for each step.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The upper ends of the steps. The first is a message or a read that waits for nothing; the last is longer than any deadline of a
/// request.
pub const STEPS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Timings {
    /// One for each step, and one for what took longer.
    counts: [AtomicU64; STEPS.len() + 1],
    nanos: AtomicU64,
}

/// What [`Timings`] had counted at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimingsSnapshot {
    /// What took at most as long as each of the [`STEPS`].
    pub within: [u64; STEPS.len()],
    pub count: u64,
    pub sum: Duration,
}

impl Timings {
    pub fn record(&self, took: Duration) {
        let step = STEPS.partition_point(|end| *end < took);
        self.counts[step].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn snapshot(&self) -> TimingsSnapshot {
        let (mut within, mut count) = ([0; STEPS.len()], 0);
        for (step, counted) in self.counts.iter().enumerate() {
            count += counted.load(Relaxed);
            if let Some(within) = within.get_mut(step) {
                *within = count;
            }
        }
        TimingsSnapshot { within, count, sum: Duration::from_nanos(self.nanos.load(Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_its_step_and_in_all_longer_ones() {
        let timings = Timings::default();
        for took in [Duration::ZERO, STEPS[0], STEPS[0] + Duration::from_nanos(1), Duration::from_secs(31)] {
            timings.record(took);
        }
        let counted = timings.snapshot();
        assert_eq!(counted.within[..3], [2, 3, 3]);
        assert_eq!(counted.within[STEPS.len() - 1], 3, "one took longer than the last step");
        assert_eq!(counted.count, 4);
        assert_eq!(counted.sum, Duration::from_secs(31) + 2 * STEPS[0] + Duration::from_nanos(1));
    }
}
