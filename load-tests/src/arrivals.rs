//! When requests are meant to start. The times are fixed before the first of them, so a slow node cannot slow the load down: what waits,
//! waits on the node's account (no coordinated omission).

use std::time::Duration;

/// Intended starts, after the beginning of a phase, in order.
#[derive(Debug)]
pub(crate) struct Arrivals {
    shape: Shape,
    /// The start before, in seconds.
    last: f64,
    left: u64,
}

#[derive(Debug)]
enum Shape {
    Poisson { random: fastrand::Rng, per_second: f64, until: f64 },
    Even { gap: f64 },
}

impl Arrivals {
    /// Requests that know nothing of each other: exponential times between them (a Poisson process).
    pub(crate) fn poisson(seed: u64, per_second: f64, time: Duration, at_most: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { shape: Shape::Poisson { random, per_second, until: time.as_secs_f64() }, last: 0.0, left: at_most }
    }

    /// All of them evenly over a time; at one moment if that is zero.
    pub(crate) fn even(count: u64, over: Duration) -> Self {
        let gap = over.as_secs_f64() / count.max(1) as f64;
        Self { shape: Shape::Even { gap }, last: -gap, left: count }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.shape {
            Shape::Poisson { random, per_second, until } => {
                // 1 - u lies above 0, so the logarithm is finite.
                self.last -= (1.0 - random.f64()).ln() / *per_second;
                (self.last < *until).then(|| Duration::from_secs_f64(self.last))
            }
            Shape::Even { gap } => {
                self.last += *gap;
                Some(Duration::from_secs_f64(self.last.max(0.0)))
            }
        }
    }
}

/// Chooses contents: with an exponent of 0 all alike, with 1 as people choose (Zipf).
#[derive(Debug, Clone)]
pub(crate) struct Popularity {
    /// The share of the first, of the first two, ...
    shares: Vec<f64>,
}

impl Popularity {
    pub(crate) fn new(exponent: f64, count: usize) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= sum);
        Self { shares }
    }

    /// An index below the count.
    pub(crate) fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64();
        self.shares.partition_point(|share| *share <= at).min(self.shares.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poisson_process_has_its_rate_and_its_spread_and_is_the_same_for_the_same_seed() {
        let times = |seed| -> Vec<f64> {
            Arrivals::poisson(seed, 1000.0, Duration::from_secs(20), u64::MAX).map(|at| at.as_secs_f64()).collect()
        };
        let found = times(7);
        // The count of a Poisson process has the variance of its mean: 20,000 with a deviation of 141.
        assert!((19_400..20_600).contains(&found.len()), "{}", found.len());
        let gaps: Vec<f64> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "exponential gaps deviate by their mean");
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
        assert_eq!(found, times(7));
        assert_ne!(found, times(8));
    }

    #[test]
    fn the_number_of_requests_is_bounded() {
        assert_eq!(Arrivals::poisson(1, 1000.0, Duration::from_secs(3600), 10).count(), 10);
    }

    #[test]
    fn a_stampede_comes_at_one_moment_and_an_even_crowd_over_its_time() {
        assert!(Arrivals::even(50, Duration::ZERO).all(|at| at.is_zero()));
        let crowd: Vec<_> = Arrivals::even(4, Duration::from_secs(2)).map(|at| at.as_millis()).collect();
        assert_eq!(crowd, [0, 500, 1000, 1500]);
    }

    #[test]
    fn popular_contents_are_chosen_more_often() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut counts = [0; 10];
        let zipf = Popularity::new(1.0, 10);
        (0..10_000).for_each(|_| counts[zipf.choose(&mut random)] += 1);
        // The first of ten has 1 / (1 + 1/2 + ... + 1/10) = 34.1 %.
        assert!((3200..3620).contains(&counts[0]), "{counts:?}");
        assert!(counts[0] > counts[1] && counts[1] > counts[9] && counts[9] > 0, "{counts:?}");
        let mut counts = [0; 10];
        let alike = Popularity::new(0.0, 10);
        (0..10_000).for_each(|_| counts[alike.choose(&mut random)] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
