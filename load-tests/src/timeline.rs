//! What an open load measures: everything together, and in slices of time, from which intervals and plots are made.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    fault::Fault,
    latency::{Latencies, Percentiles},
    measure::Tally,
    open_report::{OpenReport, OperationReport, Point},
    operation::{Outcome, Proof},
    statistics::Interval,
};

/// Slices of a phase; a multiple of the batches, so that each batch has as many.
const SLICES: usize = 120;
const SLICES_OF_SHORT_PHASES: usize = 40;
const BATCHES: usize = 40;
const SHORT_SECONDS: f64 = 30.0;

/// Things that are looked up at the end of the run; the newest ones replace others.
const PROOFS: usize = 16;

/// What is no error of a phase.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// 429 and 503.
    pub(crate) refusals: bool,
    /// What comes of a part that was stopped.
    pub(crate) failures: bool,
}

/// A phase that is being measured.
pub(crate) struct Recorder {
    length: Duration,
    expected: Expected,
    slices: Vec<Slice>,
    pub(crate) tally: Tally,
    pub(crate) due: u64,
    /// Answered while the phase lasted.
    pub(crate) served_in_time: u64,
    pub(crate) refused: u64,
    pub(crate) shapeless: u64,
    pub(crate) unsent: u64,
    refusals: BTreeMap<String, u64>,
    /// Those that were expected.
    failures: BTreeMap<String, u64>,
    lag: Latencies,
    operations: BTreeMap<&'static str, OfOperation>,
    pub(crate) proofs: Vec<Proof>,
}

struct OfOperation {
    requests: u64,
    first_byte: Latencies,
    last_byte: Latencies,
}

/// Latencies are those of the requests that were due in it; throughput is what ended in it.
struct Slice {
    due: u64,
    done: u64,
    bytes: u64,
    refused: u64,
    failed: u64,
    first_byte: Latencies,
    last_byte: Latencies,
}

impl Recorder {
    pub(crate) fn new(length: Duration, expected: Expected) -> Self {
        let count = if length.as_secs_f64() < SHORT_SECONDS { SLICES_OF_SHORT_PHASES } else { SLICES };
        Self {
            length,
            expected,
            slices: (0..count).map(|_| Slice::new()).collect(),
            tally: Tally::new(),
            due: 0,
            served_in_time: 0,
            refused: 0,
            shapeless: 0,
            unsent: 0,
            refusals: BTreeMap::new(),
            failures: BTreeMap::new(),
            lag: Latencies::new(),
            operations: BTreeMap::new(),
            proofs: Vec::new(),
        }
    }

    /// A request that was due while too many were open.
    pub(crate) fn unsent(&mut self, due: Duration) {
        self.due += 1;
        self.unsent += 1;
        if let Some(slice) = self.slice(due) {
            slice.due += 1;
        }
    }

    pub(crate) fn record(&mut self, outcome: Outcome) {
        let Outcome { kind, due, lag, ended, charges, proof } = outcome;
        self.due += 1;
        self.lag.record(lag);
        let refusal = ended.fault.as_ref().filter(|fault| fault.is_refusal());
        let is_refused = refusal.is_some();
        if let Some(slice) = self.slice(due) {
            slice.due += 1;
            slice.refused += u64::from(is_refused);
            slice.failed += u64::from(ended.fault.is_some() && !is_refused);
            if ended.fault.is_none() {
                ended.first_byte.into_iter().for_each(|time| slice.first_byte.record(time));
                slice.last_byte.record(ended.total);
            }
        }
        if ended.fault.is_none() {
            if let Some(slice) = self.slice(due + ended.total) {
                slice.done += 1;
                slice.bytes += ended.received;
                self.served_in_time += 1;
            }
            let of = self.operations.entry(kind.name()).or_insert_with(OfOperation::new);
            of.requests += 1;
            ended.first_byte.into_iter().for_each(|time| of.first_byte.record(time));
            of.last_byte.record(ended.total);
        }
        if let Some(fault) = refusal {
            self.refuse(fault);
        }
        let failure = ended.fault.as_ref().filter(|fault| self.expected.failures && !is_refused && fault.is_failure());
        if let Some(fault) = failure {
            *self.failures.entry(fault.to_string()).or_default() += 1;
        } else if !(is_refused && self.expected.refusals) {
            self.tally.count(&ended);
        }
        for (receipt_id, charge) in charges {
            self.tally.charge(&receipt_id, charge);
        }
        if let Some(proof) = proof {
            if self.proofs.len() < PROOFS {
                self.proofs.push(proof);
            } else {
                self.proofs[self.due as usize % PROOFS] = proof;
            }
        }
    }

    /// Adds a later step of the same phase; its slices follow.
    pub(crate) fn append(&mut self, other: Self) {
        self.length += other.length;
        self.slices.extend(other.slices);
        self.tally.merge(other.tally);
        self.due += other.due;
        self.served_in_time += other.served_in_time;
        self.refused += other.refused;
        self.shapeless += other.shapeless;
        self.unsent += other.unsent;
        for (kind, count) in other.refusals {
            *self.refusals.entry(kind).or_default() += count;
        }
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        self.lag.merge(&other.lag);
        for (name, of) in other.operations {
            let sum = self.operations.entry(name).or_insert_with(OfOperation::new);
            sum.requests += of.requests;
            sum.first_byte.merge(&of.first_byte);
            sum.last_byte.merge(&of.last_byte);
        }
        self.proofs.extend(other.proofs);
    }

    fn refuse(&mut self, fault: &Fault) {
        self.refused += 1;
        self.shapeless += u64::from(!fault.has_shape());
        *self.refusals.entry(fault.to_string()).or_default() += 1;
    }

    fn slice(&mut self, at: Duration) -> Option<&mut Slice> {
        let part = if self.length.is_zero() { 0.0 } else { at.as_secs_f64() / self.length.as_secs_f64() };
        let index = (part * self.slices.len() as f64) as usize;
        self.slices.get_mut(index)
    }

    /// `began`: after the beginning of the run.
    pub(crate) fn report(&self, warm_up: bool, began: Duration) -> OpenReport {
        let began_seconds = began.as_secs_f64();
        let seconds = self.length.as_secs_f64() / self.slices.len() as f64;
        let has_time = seconds > 0.0;
        let series = self.slices.iter().enumerate().filter(|_| has_time);
        OpenReport {
            warm_up,
            began_seconds,
            due: self.due,
            unsent: self.unsent,
            refused: self.refused,
            refusals: self.refusals.clone(),
            failures: self.failures.clone(),
            lag_ms: self.lag.percentiles(),
            operations: self.operations.iter().map(|(name, of)| (*name, of.report())).collect(),
            intervals: if has_time { self.intervals(seconds) } else { BTreeMap::new() },
            series: series.map(|(index, slice)| slice.point(began_seconds + index as f64 * seconds, seconds)).collect(),
            steps: Vec::new(),
            knee_per_second: None,
        }
    }

    fn intervals(&self, seconds: f64) -> BTreeMap<&'static str, Interval> {
        let size = self.slices.len() / BATCHES;
        let batches: Vec<Slice> = self.slices.chunks_exact(size).map(Slice::together).collect();
        let seconds = seconds * size as f64;
        let mut found = BTreeMap::new();
        let mut add = |name, of: &dyn Fn(&Slice) -> Option<f64>| {
            let values: Vec<f64> = batches.iter().filter_map(of).collect();
            if let Some(interval) = Interval::of(&values) {
                found.insert(name, interval);
            }
        };
        add("requestsPerSecond", &|batch| Some(batch.done as f64 / seconds));
        add("mibPerSecond", &|batch| Some(mib(batch.bytes) / seconds));
        add("firstByteP50Ms", &|batch| shown(&batch.first_byte).map(|times| times.p50));
        add("firstByteP99Ms", &|batch| shown(&batch.first_byte).map(|times| times.p99));
        add("lastByteP50Ms", &|batch| shown(&batch.last_byte).map(|times| times.p50));
        add("lastByteP99Ms", &|batch| shown(&batch.last_byte).map(|times| times.p99));
        found
    }
}

impl OfOperation {
    fn new() -> Self {
        Self { requests: 0, first_byte: Latencies::new(), last_byte: Latencies::new() }
    }

    fn report(&self) -> OperationReport {
        OperationReport {
            requests: self.requests,
            first_byte_ms: self.first_byte.percentiles(),
            last_byte_ms: self.last_byte.percentiles(),
        }
    }
}

impl Slice {
    fn new() -> Self {
        let (first_byte, last_byte) = (Latencies::coarse(), Latencies::coarse());
        Self { due: 0, done: 0, bytes: 0, refused: 0, failed: 0, first_byte, last_byte }
    }

    fn together(slices: &[Self]) -> Self {
        let mut sum = Self::new();
        for slice in slices {
            sum.due += slice.due;
            sum.done += slice.done;
            sum.bytes += slice.bytes;
            sum.refused += slice.refused;
            sum.failed += slice.failed;
            sum.first_byte.merge(&slice.first_byte);
            sum.last_byte.merge(&slice.last_byte);
        }
        sum
    }

    fn point(&self, at: f64, seconds: f64) -> Point {
        let first_byte = shown(&self.first_byte);
        Point {
            at,
            due_per_second: self.due as f64 / seconds,
            done_per_second: self.done as f64 / seconds,
            mib_per_second: mib(self.bytes) / seconds,
            refused_per_second: self.refused as f64 / seconds,
            failed_per_second: self.failed as f64 / seconds,
            first_byte_p50_ms: first_byte.map(|times| times.p50),
            first_byte_p99_ms: first_byte.map(|times| times.p99),
            last_byte_p99_ms: shown(&self.last_byte).map(|times| times.p99),
        }
    }
}

/// A slice without requests has no latency, and not one of zero.
fn shown(times: &Latencies) -> Option<Percentiles> {
    (!times.is_empty()).then(|| times.percentiles())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Kind, stream::Ended};

    fn outcome(due_ms: u64, total_ms: u64, fault: Option<Fault>) -> Outcome {
        let total = Duration::from_millis(total_ms);
        let ended = Ended { received: 1 << 20, first_byte: Some(total / 2), total, fault };
        let due = Duration::from_millis(due_ms);
        Outcome { kind: Kind::Stream, due, lag: Duration::ZERO, ended, charges: Vec::new(), proof: None }
    }

    /// A node serves a request in 10 ms, stops for two seconds, and serves on: 100 requests a second are due. A generator that waits for
    /// answers would see one slow request in 800, and call the p99 10 ms.
    #[test]
    fn a_pause_of_the_node_is_counted_for_every_request_that_was_due_in_it() {
        let mut recorder = Recorder::new(Duration::from_secs(10), Expected::default());
        for due in (0..10_000).step_by(10) {
            let waits = if (4000..6000).contains(&due) { 6000 - due } else { 0 };
            recorder.record(outcome(due, waits + 10, None));
        }
        let last = recorder.tally.total.percentiles();
        assert!((last.p50 - 10.0).abs() < 0.1, "{last:?}");
        // A fifth of all waited: the 99th of 100 is one of those that waited for nearly all of the two seconds.
        assert!(last.p99 > 1800.0 && last.max > 2000.0, "{last:?}");
        let report = recorder.report(false, Duration::from_secs(3));
        assert_eq!(report.series.len(), 40);
        assert_eq!(report.series[0].at, 3.0);
        // One more ends just as the pause begins.
        let during = report.series.iter().filter(|point| point.done_per_second < 5.0).count();
        assert_eq!(during, 8, "nothing arrived in two seconds of ten");
        assert!((report.intervals["requestsPerSecond"].mean - 100.0).abs() < 1.0, "{:?}", report.intervals);
    }

    #[test]
    fn a_refusal_is_an_answer_where_it_is_expected_and_an_error_elsewhere() {
        let refused = |says_when| Fault::Refused { status: 503, problem: "urn:busy".into(), says_when };
        for (refusals, errors) in [(true, 0), (false, 2)] {
            let mut recorder = Recorder::new(Duration::from_secs(1), Expected { refusals, failures: false });
            recorder.record(outcome(0, 1, Some(refused(true))));
            recorder.record(outcome(0, 1, Some(refused(false))));
            assert_eq!((recorder.refused, recorder.shapeless), (2, 1));
            assert_eq!(recorder.tally.faults.values().sum::<u64>(), errors);
        }
    }

    #[test]
    fn what_ends_after_the_phase_is_not_served_in_time_and_what_was_not_sent_was_due() {
        let mut recorder = Recorder::new(Duration::from_secs(1), Expected::default());
        recorder.record(outcome(900, 50, None));
        recorder.record(outcome(900, 500, None));
        recorder.unsent(Duration::from_millis(950));
        assert_eq!((recorder.due, recorder.served_in_time, recorder.unsent), (3, 1, 1));
        assert_eq!(recorder.tally.streams, 2);
    }

    #[test]
    fn what_fails_while_a_part_is_stopped_is_counted_apart_and_wrong_bytes_never_are() {
        let mut recorder = Recorder::new(Duration::from_secs(1), Expected { refusals: true, failures: true });
        recorder.record(outcome(0, 1, Some(Fault::Lost("reset".into()))));
        recorder.record(outcome(0, 1, Some(Fault::WrongBytes)));
        assert_eq!(recorder.tally.faults.keys().collect::<Vec<_>>(), ["wrong bytes"]);
        assert_eq!(recorder.report(false, Duration::ZERO).failures["lost: reset"], 1);
    }
}
