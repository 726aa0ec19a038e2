//! A run of a scenario: its node, its end, and the report.

use std::{collections::BTreeMap, io::Write, sync::Arc, time::Instant};

use anyhow::{Context, ensure};

use crate::{
    api::Api,
    args::RunArgs,
    bench::{Bench, Findings},
    billing::{Allowance, BillingReport},
    client::Target,
    deployment::Deployment,
    faults, limits,
    memory::{MemoryReport, Resident},
    metrics,
    plan::TargetPlan,
    report::{self, Report},
    samples::{Sample, Sampler},
    scenarios::{planned, smoke::Smoke},
    targets::judge,
};

mod choice;

use choice::Scenario;
pub(crate) use choice::list;

/// Runs the scenario, prints the report and writes it where it is wanted.
pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<Report> {
    report::warn_of_debug_build();
    let scenario = Scenario::find(args)?;
    limits::allow_streams(scenario.streams())?;
    let (mut deployment, mut bench) = open(args, &scenario).await?;
    let idle = bench.resident();
    let (started, began) = (jiff::Timestamp::now(), Instant::now());
    let sampler = Sampler::start(bench.instances.clone(), began);
    let findings = match &scenario {
        Scenario::Smoke => Smoke.run(&bench).await?,
        Scenario::Thousand(thousand) => thousand.run(&bench).await?,
        Scenario::Fleet(fleet) => fleet.run(&bench).await?,
        Scenario::Overload(overload) => overload.run(&bench).await?,
        Scenario::Scrape(scrape) => scrape.run(&bench).await?,
        Scenario::Planned(plan) => {
            let work = planned::prepare(plan, &bench).await?;
            let faults = faults::play(&plan.faults, &mut deployment, &work.open, began);
            let (findings, faults) = tokio::try_join!(planned::run(plan, work.clone(), &bench, began), faults)?;
            // A node that was killed has another process now.
            bench.pids = deployment.pids();
            Findings { faults, ..findings }
        }
    };
    let samples = sampler.stop();
    let allowance = Allowance::of(&findings.faults, scenario.largest());
    let billing = BillingReport::compare(&bench.api, &findings.tally.received, allowance).await?;
    let ended = Ended { idle, findings, billing, samples, started: started.to_string() };
    let name = match &scenario {
        Scenario::Planned(plan) => plan.name.clone(),
        _ => args.scenario.clone(),
    };
    let mut report = conclude(name, scenario.targets(), &bench, ended).await;
    report.checks.extend(deployment.end().await);
    write!(std::io::stdout(), "{report}").context("cannot write to standard output")?;
    args.output.write(&report)?;
    Ok(report)
}

/// The node that was named, or the run's own: one, or several with what they share.
async fn open(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<(Deployment, Bench)> {
    let scaled = args.scaled.or(scenario.instances());
    let Some(address) = &args.target else {
        let deployment = match scaled {
            Some(instances) => Deployment::scaled(instances, &scenario.settings()).await?,
            None => Deployment::single(scenario.settings()).await?,
        };
        let bench = deployment.bench().await?;
        return Ok((deployment, bench));
    };
    let key = args.key.clone().context("a node of yours needs its admin key: --key or PENSTOCK_ADMIN_KEY")?;
    ensure!(scenario.faults().is_empty(), "the run stops only what it has started itself: leave --target out");
    ensure!(
        !matches!(scenario, Scenario::Fleet(_)),
        "it asks each instance by itself, and starts them: leave --target out"
    );
    let target = Target::new(address.clone()).await?;
    ensure!(
        args.allow_remote || target.socket.ip().is_loopback(),
        "{address} is another machine: if the node there is yours to load, say --allow-remote"
    );
    let api = Arc::new(Api::new(target, key));
    Ok((Deployment::none(), Bench { api: api.clone(), pids: Vec::new(), instances: vec![api] }))
}

/// What is known when the load is over.
struct Ended {
    /// The node's memory before it.
    idle: Option<Resident>,
    findings: Findings,
    billing: BillingReport,
    samples: Vec<Sample>,
    started: String,
}

/// Takes the last look at the node and puts everything together.
async fn conclude(scenario: String, targets: &[TargetPlan], bench: &Bench, ended: Ended) -> Report {
    let Ended { idle, findings, billing, samples, started } = ended;
    let memory = idle.zip(bench.resident()).map(|(idle, end)| MemoryReport {
        idle: idle.now,
        held: findings.held_bytes,
        peak: end.peak,
        end: end.now,
    });
    let mut caches = BTreeMap::new();
    for api in &bench.instances {
        for (name, count) in api.metrics().await.map(|text| metrics::cache_counters(&text)).unwrap_or_default() {
            *caches.entry(name).or_default() += count;
        }
    }
    let mut checks = findings.checks;
    checks.extend(judge(targets, &findings.phases, &samples));
    let server = bench.api.target.address.to_string();
    Report {
        phases: findings.phases,
        checks,
        overload: findings.overload,
        faults: findings.faults,
        memory,
        caches,
        samples,
        ..Report::new(&scenario, &server, started, billing)
    }
}

#[cfg(test)]
mod tests;
