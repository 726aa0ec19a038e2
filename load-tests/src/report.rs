//! What a run came to: as text for the person, as JSON for the next program.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::Context;
use serde::Serialize;

pub(crate) mod html;
pub(crate) mod junit;

use crate::{
    args::Output, billing::BillingReport, check::Check, fault_report::FaultReport, latency::Percentiles,
    measure::PhaseReport, memory::MemoryReport, open_report::OpenReport, samples::Sample, side_by_side::SideBySide,
    statistics::Interval,
};

/// What a run of the scenario `overload` found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OverloadReport {
    pub(crate) stream_bytes: u64,
    pub(crate) peak_mib_per_second: f64,
    pub(crate) peak_streams_per_second: f64,
    /// What the surges asked for.
    pub(crate) offered_per_second: f64,
    /// What the surge kept of the peak in each round.
    pub(crate) kept_in_rounds: Vec<f64>,
    /// Of clients that keep their connections, and of those that connect anew.
    pub(crate) surge: SurgeReport,
    pub(crate) strangers: SurgeReport,
    pub(crate) recovered_after_seconds: f64,
}

/// What became of ten times the peak.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SurgeReport {
    pub(crate) mib_per_second: f64,
    /// As a part of the peak.
    pub(crate) kept: f64,
    pub(crate) refused: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    /// From the beginning of the connection or, where it is kept, of the request to the end of the answer.
    pub(crate) refusal_ms: Percentiles,
}

pub(crate) fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing");
    }
}

impl Output {
    /// Writes the report where it is wanted.
    pub(crate) fn write(&self, report: &Report) -> anyhow::Result<()> {
        let write = |file: &Path, text: String| {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        if let Some(file) = &self.json {
            write(file, serde_json::to_string_pretty(report)? + "\n")?;
        }
        if let Some(file) = &self.html {
            write(file, html::page(report)?)?;
        }
        if let Some(file) = &self.junit {
            write(file, junit::suite(report))?;
        }
        Ok(())
    }
}

/// The whole of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) server: String,
    /// When the load began.
    pub(crate) started: String,
    pub(crate) phases: Vec<PhaseReport>,
    pub(crate) checks: Vec<Check>,
    pub(crate) billing: BillingReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<OverloadReport>,
    /// What the run has stopped or paused, in the order of time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<FaultReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) side_by_side: Option<SideBySide>,
    /// Of a node that the run has started itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemoryReport>,
    /// The node's own counters of its caches.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) caches: BTreeMap<String, f64>,
    /// The node's own figures over the run.
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// Of a run that has found nothing yet.
    pub(crate) fn new(scenario: &str, server: &str, started: String, billing: BillingReport) -> Self {
        Self {
            scenario: scenario.to_owned(),
            server: server.to_owned(),
            started,
            phases: Vec::new(),
            checks: Vec::new(),
            billing,
            overload: None,
            faults: Vec::new(),
            side_by_side: None,
            memory: None,
            caches: BTreeMap::new(),
            samples: Vec::new(),
        }
    }

    /// Whether every stream was right, every promise kept, and every byte billed that was received and no other.
    pub(crate) fn passed(&self) -> bool {
        self.phases.iter().all(|phase| phase.faults.is_empty())
            && self.checks.iter().all(|check| check.kept)
            && self.billing.differences.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} against {}", self.scenario, self.server)?;
        for phase in &self.phases {
            write_phase(f, phase)?;
        }
        if let Some(overload) = &self.overload {
            write_overload(f, overload)?;
        }
        if !self.faults.is_empty() {
            writeln!(f, "\nfaults")?;
            self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))?;
        }
        if let Some(side_by_side) = &self.side_by_side {
            write!(f, "{side_by_side}")?;
        }
        writeln!(f, "\nchecks")?;
        for check in &self.checks {
            writeln!(f, "  {}  {}: {}", if check.kept { "ok  " } else { "FAIL" }, check.promise, check.seen)?;
        }
        write_billing(f, &self.billing)?;
        if let Some(memory) = &self.memory {
            write_memory(f, memory)?;
        }
        let mut counted = self.caches.iter().filter(|(_, count)| **count > 0.0).peekable();
        if counted.peek().is_some() {
            writeln!(f, "\ncaches, by the node's count")?;
            counted.try_for_each(|(name, count)| writeln!(f, "  {name} {count}"))?;
        }
        writeln!(f, "\n{}", if self.passed() { "passed" } else { "FAILED" })
    }
}

fn write_phase(f: &mut fmt::Formatter<'_>, phase: &PhaseReport) -> fmt::Result {
    writeln!(f, "\nphase {}: {:.2} s", phase.name, phase.seconds)?;
    writeln!(f, "  requests    {} ({:.1}/s)", phase.requests, phase.requests_per_second)?;
    writeln!(f, "  bytes       {} ({:.1} MiB/s)", phase.bytes, phase.mib_per_second)?;
    writeln!(f, "  {:<11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "ms", "p50", "p90", "p95", "p99", "p99.9", "max")?;
    write_percentiles(f, "first byte", &phase.first_byte_ms)?;
    write_percentiles(f, "last byte", &phase.total_ms)?;
    if let Some(open) = &phase.open {
        write_open(f, open)?;
    }
    match phase.faults.values().sum::<u64>() {
        0 => writeln!(f, "  errors      none"),
        count => {
            writeln!(f, "  errors      {count}")?;
            phase.faults.iter().try_for_each(|(kind, count)| writeln!(f, "    {count} x {kind}"))
        }
    }
}

fn write_open(f: &mut fmt::Formatter<'_>, open: &OpenReport) -> fmt::Result {
    write_percentiles(f, "generator", &open.lag_ms)?;
    if open.operations.len() > 1 {
        for (name, of) in &open.operations {
            writeln!(f, "  {name}: {} requests", of.requests)?;
            write_percentiles(f, " first byte", &of.first_byte_ms)?;
            write_percentiles(f, " last byte", &of.last_byte_ms)?;
        }
    }
    writeln!(f, "  due         {}, not sent {}, refused {}", open.due, open.unsent, open.refused)?;
    open.refusals.iter().try_for_each(|(kind, count)| writeln!(f, "    {count} x {kind}"))?;
    if !open.failures.is_empty() {
        writeln!(f, "  failed      {}, as expected", open.failures.values().sum::<u64>())?;
        open.failures.iter().try_for_each(|(kind, count)| writeln!(f, "    {count} x {kind}"))?;
    }
    for step in &open.steps {
        writeln!(
            f,
            "  step        {:>8.1}/s due {:>8.1}/s served {:>8.1} MiB/s, first byte p99 {:.2} ms, {} refused{}",
            step.due_per_second,
            step.served_per_second,
            step.mib_per_second,
            step.first_byte_p99_ms,
            step.refused,
            if step.holds { "" } else { ", past the knee" }
        )?;
    }
    if let Some(knee) = open.knee_per_second {
        writeln!(f, "  knee        {knee:.1}/s")?;
    }
    for (name, Interval { mean, low, high, batches, .. }) in &open.intervals {
        writeln!(f, "  {name:<18} {mean:>10.2}, 95 % between {low:.2} and {high:.2} ({batches} batches)")?;
    }
    Ok(())
}

fn write_percentiles(f: &mut fmt::Formatter<'_>, name: &str, times: &Percentiles) -> fmt::Result {
    let Percentiles { p50, p90, p95, p99, p999, max } = times;
    writeln!(f, "  {name:<11} {p50:>9.2} {p90:>9.2} {p95:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2}")
}

fn write_billing(f: &mut fmt::Formatter<'_>, billing: &BillingReport) -> fmt::Result {
    writeln!(f, "\nbilling, {} receipts", billing.receipts)?;
    writeln!(f, "  received    {} bytes in {} streams", billing.received_bytes, billing.received_streams)?;
    writeln!(f, "  billed      {} bytes in {} requests", billing.billed_bytes, billing.billed_requests)?;
    if billing.unread_at_most > 0 {
        writeln!(f, "  unread      up to {} bytes on the way to clients that left", billing.unread_at_most)?;
    }
    if billing.lost_requests + billing.lost_bytes > 0 {
        writeln!(
            f,
            "  charged     {} bytes in {} requests for streams that a killed instance had begun",
            billing.lost_bytes, billing.lost_requests
        )?;
    }
    billing.differences.iter().try_for_each(|difference| writeln!(f, "  FAIL  {difference}"))
}

fn write_overload(f: &mut fmt::Formatter<'_>, found: &OverloadReport) -> fmt::Result {
    writeln!(f, "\noverload, streams of {} bytes", found.stream_bytes)?;
    writeln!(
        f,
        "  peak        {:.1} MiB/s, {:.1} streams/s",
        found.peak_mib_per_second, found.peak_streams_per_second
    )?;
    writeln!(f, "  asked for   {:.1} streams/s", found.offered_per_second)?;
    for (clients, surge) in [("surge", &found.surge), ("strangers", &found.strangers)] {
        writeln!(f, "  {clients:<11} {:.1} MiB/s, {:.1}% of the peak", surge.mib_per_second, surge.kept * 100.0)?;
        writeln!(f, "  refused     {}", surge.refused)?;
        write_percentiles(f, "refusal, ms", &surge.refusal_ms)?;
        surge.refusals.iter().try_for_each(|(kind, count)| writeln!(f, "    {count} x {kind}"))?;
    }
    let rounds: Vec<_> = found.kept_in_rounds.iter().map(|kept| format!("{:.1}%", kept * 100.0)).collect();
    writeln!(f, "  surge, by rounds: {}", rounds.join(" "))?;
    writeln!(f, "  recovered   after {:.2} s", found.recovered_after_seconds)
}

fn write_memory(f: &mut fmt::Formatter<'_>, memory: &MemoryReport) -> fmt::Result {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(f, "\nthe node's resident memory")?;
    writeln!(f, "  idle        {:.1} MiB", mib(memory.idle))?;
    if let Some(held) = memory.held {
        writeln!(f, "  held        {:.1} MiB", mib(held))?;
    }
    writeln!(f, "  peak        {:.1} MiB", mib(memory.peak))?;
    writeln!(f, "  end         {:.1} MiB", mib(memory.end))
}
