//! A run of a scenario: its node, its end, and the report.

use std::{
    env, fs,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;

use crate::{
    api::Api,
    args::RunArgs,
    bench::{Bench, Findings},
    billing::BillingReport,
    catalogue,
    client::Target,
    limits,
    memory::{MemoryReport, Resident},
    metrics,
    plan::{Plan, TargetPlan},
    report::{Check, Report, html, junit},
    samples::{Sample, Sampler},
    scenarios::{
        fleet::{self, Fleet},
        overload::{self, Overload},
        planned,
        scrape::{self, Scrape},
        smoke::{self, Smoke},
        thousand::Thousand,
    },
    server::OwnServer,
    targets::judge,
};

/// How long the phases of the other scenarios last: several rounds of each of a thousand clients, and short enough to be run before
/// every commit.
const SECONDS: Duration = Duration::from_secs(10);

/// Those that are more than requests at times, so that a file does not say it all.
const OTHERS: [(&str, &str); 5] = [
    ("smoke", "A little of everything in a few seconds: streams, ranges, an exact quota, a refund"),
    ("thousand", "A thousand streams held at one moment, then as many as fit"),
    ("fleet", "Ten instances on what the environment says they share, asked at random: round trips and times"),
    ("scrape", "What a look at the metrics costs while 10,000 streams are held"),
    ("overload", "Ten times as many streams as the node can serve: what still arrives, and how the rest is refused"),
];

enum Scenario {
    Smoke,
    Thousand(Thousand),
    Fleet(Fleet),
    Overload(Overload),
    Scrape(Scrape),
    Planned(Box<Plan>),
}

impl Scenario {
    fn find(args: &RunArgs) -> anyhow::Result<Self> {
        let seconds = args.seconds.unwrap_or(SECONDS);
        Ok(match args.scenario.as_str() {
            "smoke" => Self::Smoke,
            "thousand" => Self::Thousand(Thousand::new(seconds)),
            "fleet" => Self::Fleet(Fleet::new(seconds)),
            "overload" => Self::Overload(Overload::new(seconds)),
            "scrape" => Self::Scrape(Scrape::new()),
            name => {
                let mut plan = catalogue::find(name)?;
                if let Some(seconds) = args.seconds {
                    plan.set_seconds(seconds).context("--seconds")?;
                }
                Self::Planned(Box::new(plan))
            }
        })
    }

    /// Streams that are open at a time at most.
    fn streams(&self) -> usize {
        match self {
            Self::Smoke => smoke::CLIENTS,
            Self::Thousand(thousand) => thousand.streams,
            Self::Fleet(_) => fleet::CLIENTS * fleet::INSTANCES,
            Self::Overload(_) => overload::OPEN_AT_MOST,
            Self::Scrape(scrape) => scrape.streams,
            Self::Planned(plan) => plan.max_open,
        }
    }

    /// Environment variables of the node that the run starts.
    fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::Overload(_) => vec![(overload::MAX_STREAMS.0.to_owned(), overload::MAX_STREAMS.1.to_owned())],
            Self::Scrape(_) => scrape::SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            Self::Planned(plan) => plan.node.clone().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn targets(&self) -> &[TargetPlan] {
        match self {
            Self::Planned(plan) => &plan.targets,
            _ => &[],
        }
    }

    fn is_fleet(&self) -> bool {
        matches!(self, Self::Fleet(_))
    }
}

/// The scenarios, a line each.
pub(crate) fn list() -> anyhow::Result<String> {
    let mut text = String::new();
    for (name, about) in OTHERS {
        text += &format!("{name:<14} {about}\n");
    }
    for plan in catalogue::all() {
        let plan = plan?;
        text += &format!("{:<14} {}\n", plan.name, plan.about);
    }
    Ok(text)
}

/// Runs the scenario, prints the report and writes it where it is wanted.
pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<Report> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing");
    }
    let scenario = Scenario::find(args)?;
    limits::allow_streams(scenario.streams())?;
    let (own, bench) = open(args, &scenario).await?;
    let idle = bench.resident();
    let (started, began) = (jiff::Timestamp::now(), Instant::now());
    let sampler = Sampler::start(bench.api.clone(), began);
    let findings = match &scenario {
        Scenario::Smoke => Smoke.run(&bench).await?,
        Scenario::Thousand(thousand) => thousand.run(&bench).await?,
        Scenario::Fleet(fleet) => fleet.run(&bench).await?,
        Scenario::Overload(overload) => overload.run(&bench).await?,
        Scenario::Scrape(scrape) => scrape.run(&bench).await?,
        Scenario::Planned(plan) => planned::run(plan, &bench, began).await?,
    };
    let samples = sampler.stop();
    let billing = BillingReport::compare(&bench.api, &findings.tally.received).await?;
    let ended = Ended { idle, findings, billing, samples, started: started.to_string() };
    let name = match &scenario {
        Scenario::Planned(plan) => plan.name.clone(),
        _ => args.scenario.clone(),
    };
    let mut report = conclude(name, scenario.targets(), &bench, ended).await;
    for own in own {
        let stopped = own.stop().await;
        let seen = stopped.as_ref().map_or_else(|error| format!("{error:#}"), |()| "exit 0".to_owned());
        report.checks.push(Check::new("the node drains and ends well when it is told to stop", stopped.is_ok(), seen));
    }
    write!(std::io::stdout(), "{report}").context("cannot write to standard output")?;
    if let Some(file) = &args.json {
        write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(file) = &args.html {
        write(file, html::page(&report)?)?;
    }
    if let Some(file) = &args.junit {
        write(file, junit::suite(&report))?;
    }
    Ok(report)
}

/// The node that was named, or the run's own: one, or a fleet.
async fn open(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<(Vec<OwnServer>, Bench)> {
    let (own, target, key) = match &args.target {
        Some(address) => {
            let key = args.key.clone().context("a node of yours needs its admin key: --key or PENSTOCK_ADMIN_KEY")?;
            ensure!(!scenario.is_fleet(), "a fleet is started by the run itself: leave --target out");
            let target = Target::new(address.clone()).await?;
            ensure!(
                args.allow_remote || target.socket.ip().is_loopback(),
                "{address} is another machine: if the node there is yours to load, say --allow-remote"
            );
            (Vec::new(), target, key)
        }
        None => {
            ensure!(
                !scenario.is_fleet() || env::var_os("DATABASE_URL").is_some(),
                "a fleet shares a database: set DATABASE_URL, or run ./bench fleet"
            );
            let first = OwnServer::start(scenario.settings()).await?;
            let (address, key) = (first.address.clone(), first.key.clone());
            let others = if scenario.is_fleet() { fleet::INSTANCES - 1 } else { 0 };
            let others = try_join_all((0..others).map(|_| first.start_beside())).await?;
            (std::iter::once(first).chain(others).collect(), Target::new(address).await?, key)
        }
    };
    let pid = own.first().map(|own| own.pid);
    let api = Arc::new(Api::new(target, key));
    let mut peers = Vec::new();
    for other in own.iter().skip(1) {
        peers.push(Arc::new(Api::new(Target::new(other.address.clone()).await?, other.key.clone())));
    }
    Ok((own, Bench { api, pid, peers }))
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
    let caches = bench.api.metrics().await.map(|text| metrics::cache_counters(&text)).unwrap_or_default();
    let mut checks = findings.checks;
    checks.extend(judge(targets, &findings.phases, &samples));
    Report {
        scenario,
        server: bench.api.target.address.to_string(),
        started,
        phases: findings.phases,
        checks,
        billing,
        overload: findings.overload,
        memory,
        caches,
        samples,
    }
}

fn write(file: &Path, text: String) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_node::{self, Flaw};

    async fn smoke(flaw: Flaw) -> Report {
        let bench = fake_node::start(flaw).await;
        let findings = Smoke.run(&bench).await.unwrap();
        let billing =
            BillingReport::compare_within(Duration::ZERO, &bench.api, &findings.tally.received).await.unwrap();
        let ended = Ended { idle: None, findings, billing, samples: Vec::new(), started: "now".into() };
        conclude("smoke".into(), &[], &bench, ended).await
    }

    #[tokio::test]
    async fn an_honest_node_passes() {
        let report = smoke(Flaw::None).await;
        assert!(report.passed(), "{report}");
        assert_eq!(report.billing.received_bytes, report.billing.billed_bytes);
        assert_eq!(report.caches["penstock_blob_cache_hits_total"], 7.0);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["phases"][0]["name"], "whole");
        assert_eq!(json["billing"]["differences"], serde_json::json!([]));
    }

    #[tokio::test]
    async fn one_wrong_byte_fails_the_run() {
        let report = smoke(Flaw::WrongByte).await;
        assert!(!report.passed());
        assert!(report.phases[0].faults["wrong bytes"] > 0, "{report}");
        assert!(report.phases[0].requests > 0, "{report}");
    }

    #[tokio::test]
    async fn one_byte_billed_too_much_fails_the_run() {
        let report = smoke(Flaw::BillsTooMuch).await;
        assert!(!report.passed());
        assert!(!report.billing.differences.is_empty(), "{report}");
    }

    #[tokio::test]
    async fn a_quota_or_a_refund_that_is_ignored_fails_the_run() {
        for (flaw, check) in [(Flaw::IgnoresQuota, 0), (Flaw::IgnoresRefund, 1)] {
            let report = smoke(flaw).await;
            assert!(!report.passed());
            assert!(!report.checks[check].kept, "{report}");
        }
    }

    #[tokio::test]
    async fn a_fleet_streams_and_is_billed_to_the_byte() {
        let bench = fake_node::start(Flaw::None).await;
        let few = Fleet { sizes: vec![1000], receipts_per_content: 2, seconds: Duration::from_millis(100) };
        let findings = few.run(&bench).await.unwrap();
        assert!(findings.checks.iter().all(|check| check.kept), "{:?}", findings.checks);
        assert_eq!(findings.checks.len(), 4, "two kinds of round trips in two phases");
        let billing = BillingReport::compare(&bench.api, &findings.tally.received).await.unwrap();
        assert_eq!(billing.differences, Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_a_busy_node_serves_is_billed_and_what_it_refuses_must_be_told_when_to_come_back() {
        for (flaw, in_shape) in [(Flaw::Busy, true), (Flaw::BusyInSilence, false)] {
            let bench = fake_node::start(flaw).await;
            let short = Overload {
                size: 64 << 10,
                first_rate: 100.0,
                last_rate: 1500.0,
                step: Duration::from_millis(300),
                surge: Duration::from_millis(600),
            };
            let findings = short.run(&bench).await.unwrap();
            assert_eq!(findings.checks[0].kept, in_shape, "{:?}", findings.checks);
            let found = findings.overload.unwrap();
            assert!(found.surge.refused > 0 && found.strangers.refused > 0, "{found:?}");
            assert!(found.peak_mib_per_second > 0.0, "{found:?}");
            assert!(findings.tally.faults.is_empty(), "{:?}", findings.tally.faults);
            let billing = BillingReport::compare(&bench.api, &findings.tally.received).await.unwrap();
            assert_eq!(billing.differences, Vec::<String>::new());
        }
    }

    #[tokio::test]
    async fn all_streams_are_held_at_once_and_all_bytes_are_billed() {
        let bench = fake_node::start(Flaw::None).await;
        let few = Thousand {
            streams: 20,
            held_sizes: vec![4 << 20],
            small_sizes: vec![64 << 10],
            receipts_per_content: 2,
            rush: Duration::from_millis(200),
        };
        let findings = few.run(&bench).await.unwrap();
        assert!(findings.checks[0].kept, "{:?}", findings.checks);
        assert_eq!(findings.phases[0].requests, 20);
        assert!(findings.phases[1].requests >= 20, "each client of the rush streams at least once");
        let billing = BillingReport::compare(&bench.api, &findings.tally.received).await.unwrap();
        assert_eq!(billing.differences, Vec::<String>::new());
    }

    #[tokio::test]
    async fn the_metrics_are_looked_at_while_all_streams_are_held() {
        let bench = fake_node::start(Flaw::None).await;
        let few = Scrape { streams: 20, size: 4 << 20, receipts: 2, scrapes: 5 };
        let findings = few.run(&bench).await.unwrap();
        let [before, after, _time] = findings.checks.as_slice() else { panic!("{:?}", findings.checks) };
        assert!(before.kept && after.kept, "{:?}", findings.checks);
        assert_eq!(findings.phases.iter().map(|phase| phase.requests).collect::<Vec<_>>(), [5, 5]);
        assert_eq!(findings.tally.received.values().map(|received| received.streams).sum::<u64>(), 20);
    }

    /// All that streams, in half a second.
    const SHORT: &str = r#"
        about = "a test"
        zipf = 1.0
        contents = [{ size = "1 MiB", count = 2 }, { size = "3000 B", count = 4 }]
        [[phases]]
        name = "short"
        seconds = 0.5
        rate = 60
        operations = [
            { do = "stream", weight = 4 },
            { do = "range", size = "1 KiB" },
            { do = "range-storm", size = 100, count = 5 },
            { do = "stream", pace = "16 MiB" },
        ]
        [[phases]]
        name = "stampede"
        burst = 20
        operations = [{ do = "stream", new_connection = true }]
        [[targets]]
        measure = "last_byte_p99_ms"
        at_most = 60_000
    "#;

    async fn planned(flaw: Flaw, text: &str) -> Report {
        let bench = fake_node::start(flaw).await;
        let plan = Plan::parse("test", text).unwrap();
        let findings = planned::run(&plan, &bench, Instant::now()).await.unwrap();
        let billing =
            BillingReport::compare_within(Duration::ZERO, &bench.api, &findings.tally.received).await.unwrap();
        let ended = Ended { idle: None, findings, billing, samples: Vec::new(), started: "now".into() };
        conclude("test".into(), &plan.targets, &bench, ended).await
    }

    #[tokio::test]
    async fn a_scenario_that_is_a_file_is_run_and_billed_to_the_byte() {
        let report = planned(Flaw::None, SHORT).await;
        assert!(report.passed(), "{report}");
        let open = report.phases[0].open.as_ref().unwrap();
        assert_eq!(open.due, report.phases[0].requests, "{report}");
        assert!(open.operations.contains_key("range-storm"), "{:?}", open.operations.keys());
        assert_eq!(report.phases[1].requests, 20);
        assert_eq!(report.checks.len(), 4, "two of every file, and the target of each phase: {report}");
        assert!(report.billing.received_streams > report.phases[0].requests + 20, "each range of a storm is a stream");
    }

    #[tokio::test]
    async fn a_scenario_that_is_a_file_notices_a_wrong_byte_and_a_wrong_bill() {
        let report = planned(Flaw::WrongByte, SHORT).await;
        assert!(!report.passed() && report.phases[0].faults["wrong bytes"] > 0, "{report}");
        let report = planned(Flaw::BillsTooMuch, SHORT).await;
        assert!(!report.passed() && !report.billing.differences.is_empty(), "{report}");
    }

    #[tokio::test]
    async fn a_ramp_finds_the_knee_of_a_node_with_few_places() {
        let ramp = r#"
            about = "a test"
            contents = [{ size = 1000 }]
            [[phases]]
            name = "ramp"
            may_refuse = true
            ramp = { from = 60, to = 20_000, factor = 3, step_seconds = 0.5, served = 0.8, first_byte_p99_ms = 10_000 }
            operations = [{ do = "stream" }]
            [[targets]]
            measure = "knee_per_second"
            at_least = 1
        "#;
        for (flaw, in_shape) in [(Flaw::Busy, true), (Flaw::BusyInSilence, false)] {
            let report = planned(flaw, ramp).await;
            assert_eq!(report.passed(), in_shape, "{report}");
            let open = report.phases[0].open.as_ref().unwrap();
            let last = open.steps.last().unwrap();
            assert!(!last.holds && last.refused > 0, "{:?}", open.steps);
            // Four places of 10 ms are 400 requests a second at best.
            assert!(open.knee_per_second.unwrap() < 500.0, "{:?}", open.steps);
        }
    }

    #[tokio::test]
    async fn no_other_machine_gets_load_unless_it_is_said() {
        let args = RunArgs {
            scenario: "smoke".into(),
            target: Some("http://192.0.2.1:80".parse().unwrap()),
            allow_remote: false,
            key: Some("key".into()),
            json: None,
            html: None,
            junit: None,
            seconds: None,
        };
        let error = run(&args).await.err().unwrap();
        assert!(error.to_string().contains("--allow-remote"), "{error}");
    }
}
