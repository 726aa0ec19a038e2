//! A scenario that is a file, phase by phase.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    arrivals::{Arrivals, Popularity},
    bench::{Bench, Findings},
    client::{Connection, Pool},
    content::Content,
    drive::{Load, drive},
    live::Live,
    measure::{Phase, Tally},
    open_report::Step,
    operation::{Proof, WORDS, Work},
    plan::{PhasePlan, Plan, Ramp},
    report::Check,
    stream::{Wanted, stream},
    timeline::Recorder,
};

/// Calls of the preparation at a time.
const PREPARING: usize = 8;

/// Runs it; `began` is the beginning of the run.
pub(crate) async fn run(plan: &Plan, bench: &Bench, began: Instant) -> anyhow::Result<Findings> {
    let work = Arc::new(prepare(plan, bench).await?);
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
    if !proofs.is_empty() {
        findings.checks.push(read_back(bench, &work, &proofs, &mut findings.tally).await?);
    }
    Ok(findings)
}

async fn prepare(plan: &Plan, bench: &Bench) -> anyhow::Result<Work> {
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
        .map(|content| bench.prepare(content, &plan.tier, plan.receipts_per_content))
        .buffered(PREPARING)
        .try_collect()
        .await?;
    if plan.assets > 0 {
        let content = Arc::new(Content::new(plan.seed, 1));
        bench.api.put_content(&content).await?;
        let name = |asset: usize| {
            let [one, other] = [asset % WORDS.len(), asset / WORDS.len() % WORDS.len()].map(|at| WORDS[at]);
            format!("{one} {other} {asset}")
        };
        stream::iter(0..plan.assets)
            .map(|asset| {
                let content = content.clone();
                async move { bench.api.make_asset(&content, &name(asset)).await.map(|_| ()) }
            })
            .buffer_unordered(PREPARING)
            .try_collect::<()>()
            .await?;
    }
    Ok(Work {
        api: bench.api.clone(),
        pool: Pool::default(),
        popularity: Popularity::new(plan.zipf, wanted.len()),
        wanted,
        mark: fastrand::u64(..),
    })
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
            may_refuse: plan.may_refuse,
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
        while rate <= ramp.to {
            let seed = seed.wrapping_add(steps.len() as u64);
            let arrivals = Arrivals::poisson(seed, rate, length, self.left);
            let recorder = self.drive(plan, arrivals, length, seed).await?;
            let step = step(&recorder, ramp);
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

fn step(recorder: &Recorder, ramp: &Ramp) -> Step {
    let first_byte_p99_ms = recorder.tally.first_byte.percentiles().p99;
    // What is still on its way when the step ends was not left undone: a request takes its time.
    let served = recorder.tally.streams as f64 / recorder.due.max(1) as f64;
    let in_time = recorder.served_in_time as f64 / recorder.tally.streams.max(1) as f64;
    let per_second = |count: u64| count as f64 / ramp.step_seconds;
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
