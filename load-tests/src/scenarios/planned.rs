//! A scenario that is a file, phase by phase.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};

use crate::{
    arrivals::{Arrivals, Popularity},
    bench::{Bench, Findings},
    check::Check,
    client::{Connection, Pool},
    content::Content,
    drive::{Load, drive},
    live::Live,
    measure::{Phase, Tally},
    open_report::Step,
    operation::{Proof, Work, asset_name},
    plan::{PhasePlan, Plan, Quota, Ramp},
    stream::{Wanted, stream},
    timeline::{Expected, Recorder},
};

/// Calls of the preparation at a time.
const PREPARING: usize = 8;

/// Runs it; `began` is the beginning of the run.
pub(crate) async fn run(plan: &Plan, work: Arc<Work>, bench: &Bench, began: Instant) -> anyhow::Result<Findings> {
    let mut course = Course { plan, work, began, findings: Findings::new(), left: plan.max_requests, knee: None };
    let (mut unsent, mut refused, mut shapeless, mut proofs) = (0, 0, 0, Vec::new());
    for (turn, phase) in plan.phases.iter().enumerate() {
        let recorder = course.phase(turn as u64, phase).await?;
        unsent += if phase.ramp.is_some() { 0 } else { recorder.unsent };
        refused += recorder.refused;
        shapeless += recorder.shapeless;
        proofs.extend(recorder.proofs);
    }
    let Course { mut findings, work, .. } = course;
    findings.checks.push(Check::new(
        "every request that was due was sent",
        unsent == 0,
        format!("{unsent} were due while {} were open", plan.max_open),
    ));
    findings.checks.push(Check::new(
        "what is not served is refused with 429 or 503, a problem document and Retry-After",
        shapeless == 0,
        format!("{refused} refused, {shapeless} of them in another way"),
    ));
    if let Some(quota) = &plan.quota {
        findings.checks.push(overshoot(quota, &findings.tally));
    }
    if !proofs.is_empty() {
        findings.checks.push(read_back(bench, &work, &proofs, &mut findings.tally).await?);
    }
    Ok(findings)
}

/// Stores what it needs.
pub(crate) async fn prepare(plan: &Plan, bench: &Bench) -> anyhow::Result<Arc<Work>> {
    let tier = match &plan.quota {
        Some(quota) => {
            let tier = format!("load-test-{}", plan.name);
            bench.api.put_quota_policy(&tier, &policy(quota)).await?;
            tier
        }
        None => plan.tier.clone(),
    };
    let mut contents = Vec::new();
    for kind in &plan.contents {
        for _ in 0..kind.count {
            let seed = plan.seed.wrapping_mul(1_000_003) ^ contents.len() as u64;
            contents.push(Arc::new(Content::new(seed, usize::try_from(kind.size.0)?)));
        }
    }
    // The ranks of popularity are spread over the sizes.
    fastrand::Rng::with_seed(plan.seed).shuffle(&mut contents);
    let wanted: Vec<Vec<Wanted>> = stream::iter(&contents)
        .map(|content| bench.prepare(content, &tier, plan.receipts_per_content))
        .buffered(PREPARING)
        .try_collect()
        .await?;
    if plan.assets > 0 {
        let content = Arc::new(Content::new(plan.seed, 1));
        bench.api.put_content(&content).await?;
        stream::iter(0..plan.assets)
            .map(|asset| {
                let content = content.clone();
                async move { bench.api.make_asset(&content, &asset_name(asset)).await.map(|_| ()) }
            })
            .buffer_unordered(PREPARING)
            .try_collect::<()>()
            .await?;
    }
    let is_proxied = bench.instances.iter().all(|instance| !Arc::ptr_eq(instance, &bench.api));
    Ok(Arc::new(Work {
        api: bench.api.clone(),
        target: bench.api.target.spread_over_addresses(),
        pool: Pool::default(),
        open: AtomicUsize::new(0),
        is_proxied,
        assets: plan.assets,
        popularity: Popularity::new(plan.zipf, wanted.len()),
        wanted,
        mark: fastrand::u64(..),
    }))
}

/// The limits as the node wants them.
fn policy(quota: &Quota) -> Value {
    let mut policy = Map::new();
    let limits = [
        ("requestsPerMonth", quota.requests_per_month),
        ("bytesPerMonth", quota.bytes_per_month.map(|size| size.0)),
        ("maxConcurrentStreams", quota.max_concurrent_streams.map(u64::from)),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            policy.insert(name.to_owned(), limit.into());
        }
    }
    policy.into()
}

/// What receipts got beyond their quota, however many instances gave it.
fn overshoot(quota: &Quota, tally: &Tally) -> Check {
    let most_requests = quota.requests_per_month.unwrap_or(u64::MAX);
    let most_bytes = quota.bytes_per_month.map_or(u64::MAX, |size| size.0);
    let (mut requests, mut bytes, mut used) = (0, 0, 0.0_f64);
    for got in tally.received.values() {
        requests += got.streams.saturating_sub(most_requests);
        bytes += got.bytes.saturating_sub(most_bytes);
        let share = (got.streams as f64 / most_requests as f64).max(got.bytes as f64 / most_bytes as f64);
        used += share / tally.received.len() as f64;
    }
    Check::new(
        "no receipt got more than its quota",
        requests + bytes == 0,
        format!("overshoot {requests} requests and {bytes} bytes; {:.2} % of the quota was used", used * 100.0),
    )
}

/// A run on its way.
struct Course<'a> {
    plan: &'a Plan,
    work: Arc<Work>,
    began: Instant,
    findings: Findings,
    /// Requests that may still be made.
    left: u64,
    knee: Option<f64>,
}

impl Course<'_> {
    async fn phase(&mut self, turn: u64, plan: &PhasePlan) -> anyhow::Result<Recorder> {
        let (phase, began) = (Phase::begin(&plan.name), self.began.elapsed());
        let seed = self.plan.seed.wrapping_add(turn << 32);
        let length = Duration::from_secs_f64(plan.seconds);
        let mut steps = Vec::new();
        let recorder = match (&plan.ramp, plan.burst) {
            (Some(ramp), _) => {
                let (recorder, found) = self.ramp(plan, ramp, seed).await?;
                steps = found;
                recorder
            }
            (None, Some(count)) => {
                let arrivals = Arrivals::even(count.min(self.left), length);
                self.drive(plan, arrivals, length, seed).await?
            }
            (None, None) => {
                let of_knee = || Some(self.knee? * plan.of_knee?);
                let rate = plan.rate.or_else(of_knee).context("no step of the ramp was held: there is no knee")?;
                self.drive(plan, Arrivals::poisson(seed, rate, length, self.left), length, seed).await?
            }
        };
        let mut report = phase.end(&recorder.tally);
        // Rates are over the time in which requests were due: what is read after it was asked for in it.
        let mut open = recorder.report(plan.warm_up, began);
        if plan.ramp.is_some() {
            // A mean over different rates says nothing.
            open.intervals.clear();
        }
        if let Some(interval) = open.intervals.get("requestsPerSecond") {
            report.requests_per_second = interval.mean;
        }
        if let Some(interval) = open.intervals.get("mibPerSecond") {
            report.mib_per_second = interval.mean;
        }
        if plan.ramp.is_some() {
            open.knee_per_second = self.knee;
        }
        open.steps = steps;
        report.open = Some(open);
        self.findings.phases.push(report);
        self.findings.tally.merge(recorder.tally.clone());
        Ok(recorder)
    }

    async fn drive(
        &mut self,
        plan: &PhasePlan,
        arrivals: Arrivals,
        length: Duration,
        seed: u64,
    ) -> anyhow::Result<Recorder> {
        ensure!(self.left > 0, "max_requests: {} requests were made", self.plan.max_requests);
        let load = Load {
            arrivals,
            length,
            operations: plan.operations.clone().into(),
            seed,
            max_open: self.plan.max_open,
            expected: Expected { refusals: plan.may_refuse, failures: plan.may_fail },
        };
        let live = Live::begin(&plan.name, length);
        let recorder = drive(&self.work, load, &live).await;
        live.end();
        let recorder = recorder?;
        self.left = self.left.saturating_sub(recorder.due);
        Ok(recorder)
    }

    /// Rates that grow until the node does less than it is asked for; the knee is the highest rate that it held.
    async fn ramp(&mut self, plan: &PhasePlan, ramp: &Ramp, seed: u64) -> anyhow::Result<(Recorder, Vec<Step>)> {
        let length = Duration::from_secs_f64(ramp.step_seconds);
        let (mut rate, mut steps, mut whole) = (ramp.from, Vec::new(), None::<Recorder>);
        let mut usual = f64::INFINITY;
        while rate <= ramp.to {
            let seed = seed.wrapping_add(steps.len() as u64);
            let arrivals = Arrivals::poisson(seed, rate, length, self.left);
            let recorder = self.drive(plan, arrivals, length, seed).await?;
            usual = usual.min(recorder.tally.total.percentiles().p50);
            let step = step(&recorder, ramp, usual);
            let holds = step.holds;
            if holds {
                self.knee = Some(step.due_per_second);
            }
            steps.push(step);
            match &mut whole {
                Some(whole) => whole.append(recorder),
                None => whole = Some(recorder),
            }
            if !holds {
                break;
            }
            rate *= ramp.factor;
        }
        Ok((whole.context("the ramp has no step")?, steps))
    }
}

/// `usual`: the median time of a request, in milliseconds, at the step that was fastest so far.
fn step(recorder: &Recorder, ramp: &Ramp, usual: f64) -> Step {
    let first_byte_p99_ms = recorder.tally.first_byte.percentiles().p99;
    let per_second = |count: u64| count as f64 / ramp.step_seconds;
    let served = recorder.tally.streams as f64 / recorder.due.max(1) as f64;
    // A node that keeps up has as many on their way when the step ends as come in the time that one takes. They are not late.
    let on_their_way = (per_second(recorder.due) * usual / 1000.0).ceil();
    let in_time = (recorder.served_in_time as f64 + on_their_way) / recorder.tally.streams.max(1) as f64;
    Step {
        due_per_second: per_second(recorder.due),
        served_per_second: per_second(recorder.served_in_time),
        mib_per_second: per_second(recorder.tally.bytes) / f64::from(1 << 20),
        first_byte_p99_ms,
        refused: recorder.refused,
        holds: served >= ramp.served && in_time >= ramp.served && first_byte_p99_ms <= ramp.first_byte_p99_ms,
    }
}

/// Whether the node still knows what it has accepted.
async fn read_back(bench: &Bench, work: &Work, proofs: &[Proof], tally: &mut Tally) -> anyhow::Result<Check> {
    let mut known = 0;
    for proof in proofs {
        known += usize::from(match proof {
            Proof::Run(run) => bench.api.knows_run(run).await,
            Proof::Content(content) => {
                let wanted = bench.prepare(content, "unlimited", 1).await?;
                let wanted = wanted.first().context("one receipt was made")?;
                let mut connection = Connection::open(&work.api.target, None).await?;
                let ended = stream(&work.api.target, &mut connection, wanted).await;
                tally.record(&wanted.receipt_id, &ended);
                ended.fault.is_none()
            }
        });
    }
    let promise = "what was accepted is there: the newest uploads and lineage runs are read back";
    Ok(Check::new(promise, known == proofs.len(), format!("{known} of {}", proofs.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::Fault, measure::Received, operation::Outcome, plan::Kind, size::Size, stream::Ended};

    fn recorder(times_ms: impl IntoIterator<Item = (u64, u64)>) -> Recorder {
        let mut recorder = Recorder::new(Duration::from_secs(1), Expected::default());
        for (due, takes) in times_ms {
            let total = Duration::from_millis(takes);
            let ended = Ended { received: 1, first_byte: Some(Duration::from_millis(1)), total, fault: None::<Fault> };
            let (due, lag) = (Duration::from_millis(due), Duration::ZERO);
            recorder.record(Outcome { kind: Kind::Stream, due, lag, ended, charges: Vec::new(), proof: None });
        }
        recorder
    }

    #[test]
    fn requests_that_are_on_their_way_when_a_short_step_ends_are_not_late_and_a_backlog_is() {
        let ramp =
            Ramp { from: 1.0, to: 100.0, factor: 2.0, step_seconds: 1.0, served: 0.95, first_byte_p99_ms: 100.0 };
        // Five requests in a second, each of which takes 300 ms: the last one ends after the step.
        let few = recorder((0..5).map(|at| (at * 200, 300)));
        assert_eq!(few.served_in_time, 4);
        assert!(step(&few, &ramp, 300.0).holds);
        // A node that does 80 of 100 a second: each request waits longer than the one before.
        let behind = recorder((0..100).map(|at| (at * 10, 10 + at * 25 / 10)));
        assert!(!step(&behind, &ramp, 10.0).holds, "{}", behind.served_in_time);
    }

    #[test]
    fn what_goes_beyond_a_quota_is_told_for_each_receipt() {
        let quota =
            Quota { requests_per_month: Some(10), bytes_per_month: Some(Size(1000)), max_concurrent_streams: None };
        let mut tally = Tally::new();
        for (receipt, streams, bytes) in [("a", 10, 1000), ("b", 5, 100)] {
            tally.charge(receipt, Received { streams, bytes, ..Received::default() });
        }
        let kept = overshoot(&quota, &tally);
        assert!(kept.kept && kept.seen.contains("75.00 %"), "{kept:?}");
        tally.charge("b", Received { streams: 6, bytes: 901, ..Received::default() });
        let missed = overshoot(&quota, &tally);
        assert!(!missed.kept && missed.seen.contains("1 requests and 1 bytes"), "{missed:?}");
    }
}
