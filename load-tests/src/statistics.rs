//! How sure a mean is, and whether two of them differ. Samples that follow each other are alike (a slow second follows a slow
//! second), so intervals are made from the means of batches, which are nearly independent of each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Fewest batches of an interval: with fewer, Student's factor grows faster than the batches become independent.
const FEWEST_BATCHES: usize = 10;

/// Neighbours that are more alike than this are put together.
const ALIKE: f64 = 0.2;

/// How often an interval holds the true value.
const CONFIDENCE: f64 = 0.95;

/// Stricter, because two runs are compared in many measures at once.
const CONFIDENCE_OF_DIFFERENCES: f64 = 0.99;

/// A mean and the 95 % interval around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) batches: usize,
    /// Of one batch.
    pub(crate) deviation: f64,
}

impl Interval {
    /// From measurements in the order of time; `None` for fewer than ten.
    pub(crate) fn of(measurements: &[f64]) -> Option<Self> {
        let mut batches = measurements.to_vec();
        while batches.len() >= 2 * FEWEST_BATCHES && autocorrelation(&batches) > ALIKE {
            batches = batches.chunks_exact(2).map(mean).collect();
        }
        let count = batches.len();
        if count < FEWEST_BATCHES {
            return None;
        }
        let (mean, deviation) = (mean(&batches), deviation(&batches));
        let half = student(CONFIDENCE, (count - 1) as f64) * deviation / (count as f64).sqrt();
        Some(Self { mean, low: mean - half, high: mean + half, batches: count, deviation })
    }

    /// What `other` has more than this; 99 % (Welch's interval: the two may vary differently).
    pub(crate) fn difference_to(&self, other: &Self) -> Interval {
        let part = |of: &Self| of.deviation.powi(2) / of.batches as f64;
        let (a, b) = (part(self), part(other));
        let freedom = if a + b > 0.0 {
            (a + b).powi(2) / (a.powi(2) / (self.batches - 1) as f64 + b.powi(2) / (other.batches - 1) as f64)
        } else {
            1e9
        };
        let mean = other.mean - self.mean;
        let half = student(CONFIDENCE_OF_DIFFERENCES, freedom) * (a + b).sqrt();
        let batches = self.batches.min(other.batches);
        Interval { mean, low: mean - half, high: mean + half, batches, deviation: (a + b).sqrt() }
    }
}

/// How many times as much one is as the other, from pairs that were measured together: the geometric mean, and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) pairs: usize,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, low, high, pairs } = self;
        f.pad(&format!("{mean:.2}, 95 % {low:.2} to {high:.2} ({pairs} rounds)"))
    }
}

/// The ratio of two servers over the rounds of a comparison. `None` when there are fewer than two rounds, or one in which a server did nothing.
pub(crate) fn ratio(of: &[f64], to: &[f64]) -> Option<Ratio> {
    let logs: Vec<f64> = of.iter().zip(to).map(|(of, to)| (of / to).ln()).collect();
    if logs.len() < 2 || logs.iter().any(|log| !log.is_finite()) {
        return None;
    }
    let freedom = logs.len() - 1;
    let factor = STUDENT_OF_FEW.get(freedom - 1).copied().unwrap_or_else(|| student(CONFIDENCE, freedom as f64));
    let half = factor * deviation(&logs) / (logs.len() as f64).sqrt();
    let mean = mean(&logs);
    Some(Ratio { mean: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp(), pairs: logs.len() })
}

/// The slope of a line through batch means, per unit of time, with its 95 % interval. `points` are (time, value) in order.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<Interval> {
    let batches = 2 * FEWEST_BATCHES;
    if points.len() < batches {
        return None;
    }
    let size = points.len() / batches;
    let means: Vec<(f64, f64)> = points
        .chunks_exact(size)
        .map(|batch| {
            let mean_of = |of: fn(&(f64, f64)) -> f64| batch.iter().map(of).sum::<f64>() / batch.len() as f64;
            (mean_of(|point| point.0), mean_of(|point| point.1))
        })
        .collect();
    let count = means.len() as f64;
    let (x, y) = (
        means.iter().map(|point| point.0).sum::<f64>() / count,
        means.iter().map(|point| point.1).sum::<f64>() / count,
    );
    let spread: f64 = means.iter().map(|point| (point.0 - x).powi(2)).sum();
    if spread == 0.0 {
        return None;
    }
    let slope = means.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let rest: f64 = means.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    let deviation = (rest / (count - 2.0) / spread).sqrt();
    let half = student(CONFIDENCE, count - 2.0) * deviation;
    Some(Interval { mean: slope, low: slope - half, high: slope + half, batches: means.len(), deviation })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// How alike neighbours are: 0 when not at all, 1 when they are the same.
fn autocorrelation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let spread: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if spread == 0.0 {
        return 0.0;
    }
    values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / spread
}

/// Student's factors of a 95 % interval from one degree of freedom on, where the expansion below is not right yet.
const STUDENT_OF_FEW: [f64; 7] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365];

/// Student's factor for a two-sided interval: the expansion of Cornish and Fisher around the normal distribution, which is right
/// to a thousandth from eight degrees of freedom on.
fn student(confidence: f64, freedom: f64) -> f64 {
    // The normal quantiles of the two confidences in use.
    let z: f64 = if confidence == CONFIDENCE { 1.959_963_985 } else { 2.575_829_304 };
    let v = freedom;
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v.powi(2))
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
        + (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z)
            / (92_160.0 * v.powi(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values between 0 and 1 from a seed.
    fn noise(seed: u64, count: usize) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f64()).collect()
    }

    #[test]
    fn students_factor_is_that_of_the_tables() {
        for (confidence, freedom, factor) in [
            (CONFIDENCE, 9.0, 2.2622),
            (CONFIDENCE, 18.0, 2.1009),
            (CONFIDENCE, 39.0, 2.0227),
            (CONFIDENCE_OF_DIFFERENCES, 9.0, 3.2498),
            (CONFIDENCE_OF_DIFFERENCES, 30.0, 2.7500),
        ] {
            let found = student(confidence, freedom);
            assert!((found - factor).abs() < 0.003, "{confidence} {freedom}: {found}");
        }
    }

    #[test]
    fn an_interval_holds_the_true_mean_as_often_as_it_says() {
        let held = (0..1000).filter(|seed| {
            let interval = Interval::of(&noise(*seed, 40)).unwrap();
            interval.low <= 0.5 && 0.5 <= interval.high
        });
        let held = held.count();
        assert!((925..=975).contains(&held), "{held} of 1,000");
    }

    #[test]
    fn measurements_that_follow_each_other_closely_make_fewer_batches_and_a_wider_interval() {
        let apart = noise(1, 40);
        let mut alike = apart.clone();
        alike.sort_by(f64::total_cmp);
        let (apart, alike) = (Interval::of(&apart).unwrap(), Interval::of(&alike).unwrap());
        assert!(alike.batches < apart.batches, "{alike:?} {apart:?}");
        assert!(alike.high - alike.low > apart.high - apart.low);
        assert_eq!(Interval::of(&[1.0; 9]), None, "nine measurements are too few");
        assert_eq!(Interval::of(&[1.0; 10]).unwrap().low, 1.0);
    }

    #[test]
    fn a_difference_is_seen_when_it_is_there_and_not_when_it_is_not() {
        let base = Interval::of(&noise(1, 40)).unwrap();
        let same = base.difference_to(&Interval::of(&noise(2, 40)).unwrap());
        assert!(same.low < 0.0 && 0.0 < same.high, "{same:?}");
        let more: Vec<f64> = noise(3, 40).iter().map(|value| value + 0.5).collect();
        let more = base.difference_to(&Interval::of(&more).unwrap());
        assert!(more.low > 0.0 && more.high < 1.0, "{more:?}");
    }

    #[test]
    fn a_ratio_is_that_of_pairs_and_holds_the_true_one_as_often_as_it_says() {
        let same = ratio(&[2.0, 20.0, 200.0], &[1.0, 10.0, 100.0]).unwrap();
        assert!((same.mean - 2.0).abs() < 1e-9 && (same.high - 2.0).abs() < 1e-9, "{same:?}");
        assert_eq!(ratio(&[1.0], &[1.0]), None, "one pair has no interval");
        assert_eq!(ratio(&[1.0, 0.0], &[1.0, 1.0]), None, "no ratio to nothing");
        let held = (0..1000).filter(|seed| {
            // Each round has a speed of its own, which both have.
            let (machine, noise) = (noise(*seed, 5), noise(seed + 5000, 5));
            let of: Vec<f64> =
                machine.iter().zip(&noise).map(|(a, b)| (1.0 + a) * 0.8 * (0.2 * (b - 0.5)).exp()).collect();
            let to: Vec<f64> = machine.iter().map(|a| 1.0 + a).collect();
            let found = ratio(&of, &to).unwrap();
            found.low <= 0.8 && 0.8 <= found.high
        });
        let held = held.count();
        assert!((920..=980).contains(&held), "{held} of 1,000");
    }

    #[test]
    fn a_slope_has_an_interval_that_tells_growth_from_noise() {
        let line = |rise: f64| -> Vec<(f64, f64)> {
            noise(5, 400).iter().enumerate().map(|(at, noise)| (at as f64, rise * at as f64 + noise)).collect()
        };
        let flat = slope(&line(0.0)).unwrap();
        assert!(flat.low <= 0.0 && 0.0 <= flat.high, "{flat:?}");
        let rising = slope(&line(0.1)).unwrap();
        assert!(rising.low > 0.09 && rising.high < 0.11, "{rising:?}");
        assert_eq!(slope(&line(1.0)[..19]), None);
    }
}
