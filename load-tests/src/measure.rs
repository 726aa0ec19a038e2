//! What a phase counts and times.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;

use crate::{
    latency::{Latencies, Percentiles},
    open_report::OpenReport,
    stream::Ended,
};

/// What one receipt got, to be compared with what it is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) streams: u64,
    /// Bytes that may have left the node for clients that left before they read them.
    pub(crate) unread_at_most: u64,
    /// Streams that ended badly: a bill may have them or not.
    pub(crate) cut: u64,
}

impl Received {
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.streams += other.streams;
        self.unread_at_most += other.unread_at_most;
        self.cut += other.cut;
    }
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

    /// A stream under one receipt.
    pub(crate) fn record(&mut self, receipt_id: &str, ended: &Ended) {
        self.count(ended);
        let streams = u64::from(ended.fault.is_none());
        self.charge(receipt_id, Received { bytes: ended.received, streams, ..Received::default() });
    }

    /// What a receipt is to be billed.
    pub(crate) fn charge(&mut self, receipt_id: &str, charge: Received) {
        // Looked up twice rather than allocated each time: a receipt is new once, and seen a thousand times.
        if !self.received.contains_key(receipt_id) {
            self.received.insert(receipt_id.to_owned(), Received::default());
        }
        if let Some(received) = self.received.get_mut(receipt_id) {
            received.add(charge);
        }
    }

    /// A request of any kind.
    pub(crate) fn count(&mut self, ended: &Ended) {
        self.bytes += ended.received;
        if let Some(first_byte) = ended.first_byte {
            self.first_byte.record(first_byte);
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
            self.received.entry(receipt_id).or_default().add(received);
        }
    }
}

/// A phase that is being measured.
pub(crate) struct Phase {
    name: String,
    began: Instant,
}

impl Phase {
    pub(crate) fn begin(name: impl Into<String>) -> Self {
        Self { name: name.into(), began: Instant::now() }
    }

    pub(crate) fn end(self, tally: &Tally) -> PhaseReport {
        let seconds = self.began.elapsed().as_secs_f64();
        PhaseReport {
            name: self.name,
            seconds,
            requests: tally.streams,
            bytes: tally.bytes,
            requests_per_second: tally.streams as f64 / seconds,
            mib_per_second: tally.bytes as f64 / f64::from(1 << 20) / seconds,
            first_byte_ms: tally.first_byte.percentiles(),
            total_ms: tally.total.percentiles(),
            faults: tally.faults.clone(),
            open: None,
        }
    }
}

/// What a phase came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PhaseReport {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) mib_per_second: f64,
    pub(crate) first_byte_ms: Percentiles,
    pub(crate) total_ms: Percentiles,
    pub(crate) faults: BTreeMap<String, u64>,
    /// Of a phase whose requests come at times of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<OpenReport>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert_eq!(all.received["a"], Received { bytes: 17, streams: 2, ..Received::default() });
        assert_eq!(all.received["b"], Received { bytes: 5, streams: 0, ..Received::default() });
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
