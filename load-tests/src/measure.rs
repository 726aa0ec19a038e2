//! What a phase counts and times.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::stream::Ended;

/// Longest latency that is told apart, in microseconds: an hour. Longer ones count as that.
const MAX_MICROS: u64 = 3_600_000_000;

/// Times, in a histogram of fixed size: a long run needs no more memory than a short one.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    micros: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        // Three digits: an error of a thousandth, far below what two runs differ by.
        let micros = Histogram::new_with_max(MAX_MICROS, 3).expect("the highest value is above twice the lowest");
        Self { micros }
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

/// What one receipt got, to be compared with what it is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) streams: u64,
}

/// Counts of streams. Each client fills its own, so that measuring needs no lock; they are merged when a phase is over.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) streams: u64,
    pub(crate) bytes: u64,
    /// From the request to the first byte of the body.
    pub(crate) first_byte: Latencies,
    /// From the request to the last byte, of the streams that were right.
    pub(crate) total: Latencies,
    /// Streams that were not right, by kind.
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) received: BTreeMap<String, Received>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            streams: 0,
            bytes: 0,
            first_byte: Latencies::new(),
            total: Latencies::new(),
            faults: BTreeMap::new(),
            received: BTreeMap::new(),
        }
    }

    pub(crate) fn record(&mut self, receipt_id: &str, ended: &Ended) {
        self.bytes += ended.received;
        if let Some(first_byte) = ended.first_byte {
            self.first_byte.record(first_byte);
        }
        // Looked up twice rather than allocated each time: a receipt is new once, and seen a thousand times.
        if !self.received.contains_key(receipt_id) {
            self.received.insert(receipt_id.to_owned(), Received::default());
        }
        if let Some(received) = self.received.get_mut(receipt_id) {
            received.bytes += ended.received;
            received.streams += u64::from(ended.fault.is_none());
        }
        match &ended.fault {
            None => {
                self.streams += 1;
                self.total.record(ended.total);
            }
            Some(fault) => *self.faults.entry(fault.to_string()).or_default() += 1,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.streams += other.streams;
        self.bytes += other.bytes;
        self.first_byte.merge(&other.first_byte);
        self.total.merge(&other.total);
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (receipt_id, received) in other.received {
            let sum = self.received.entry(receipt_id).or_default();
            sum.bytes += received.bytes;
            sum.streams += received.streams;
        }
    }
}

/// A phase that is being measured.
pub(crate) struct Phase {
    name: &'static str,
    began: Instant,
}

impl Phase {
    pub(crate) fn begin(name: &'static str) -> Self {
        Self { name, began: Instant::now() }
    }

    pub(crate) fn end(self, tally: &Tally) -> PhaseReport {
        let seconds = self.began.elapsed().as_secs_f64();
        PhaseReport {
            name: self.name,
            seconds,
            streams: tally.streams,
            bytes: tally.bytes,
            streams_per_second: tally.streams as f64 / seconds,
            mib_per_second: tally.bytes as f64 / f64::from(1 << 20) / seconds,
            first_byte_ms: tally.first_byte.percentiles(),
            total_ms: tally.total.percentiles(),
            faults: tally.faults.clone(),
        }
    }
}

/// What a phase came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PhaseReport {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    pub(crate) streams: u64,
    pub(crate) bytes: u64,
    pub(crate) streams_per_second: f64,
    pub(crate) mib_per_second: f64,
    pub(crate) first_byte_ms: Percentiles,
    pub(crate) total_ms: Percentiles,
    pub(crate) faults: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn ended(received: u64, fault: Option<Fault>) -> Ended {
        Ended { received, first_byte: Some(Duration::from_millis(2)), total: Duration::from_millis(8), fault }
    }

    #[test]
    fn tallies_of_clients_add_up() {
        let (mut all, mut one, mut other) = (Tally::new(), Tally::new(), Tally::new());
        one.record("a", &ended(10, None));
        one.record("b", &ended(5, Some(Fault::WrongBytes)));
        other.record("a", &ended(7, None));
        all.merge(one);
        all.merge(other);

        assert_eq!((all.streams, all.bytes), (2, 22));
        assert_eq!(all.received["a"], Received { bytes: 17, streams: 2 });
        assert_eq!(all.received["b"], Received { bytes: 5, streams: 0 });
        assert_eq!(all.faults["wrong bytes"], 1);
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut tally = Tally::new();
        tally.record("a", &ended(1, None));
        let found = tally.total.percentiles();
        assert!((found.p50 - 8.0).abs() < 0.01 && (found.max - 8.0).abs() < 0.01, "{found:?}");
    }
}
