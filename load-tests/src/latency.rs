//! Times, and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in microseconds: an hour. Longer ones count as that.
const MAX_MICROS: u64 = 3_600_000_000;

/// Times, in a histogram of fixed size: a long run needs no more memory than a short one.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    micros: Histogram<u64>,
}

impl Latencies {
    /// Three digits: an error of a thousandth, far below what two runs differ by.
    pub(crate) fn new() -> Self {
        Self::of_digits(3)
    }

    /// Two digits, for many of them: a seventh of the memory.
    pub(crate) fn coarse() -> Self {
        Self::of_digits(2)
    }

    fn of_digits(digits: u8) -> Self {
        let micros = Histogram::new_with_max(MAX_MICROS, digits);
        Self { micros: micros.expect("the highest value is above twice the lowest") }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.micros.is_empty()
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.micros.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.micros.add(&other.micros).expect("all histograms have the same bounds");
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.micros.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: self.micros.max() as f64 / 1000.0,
        }
    }
}

/// Percentiles of a latency, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}
