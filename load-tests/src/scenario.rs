//! A run of a scenario: its node, its end, and the report.

use std::{env, fs, io::Write, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use futures::future::try_join_all;

use crate::{
    api::Api,
    args::{RunArgs, ScenarioName},
    bench::{Bench, Findings},
    billing::BillingReport,
    client::Target,
    limits,
    memory::{MemoryReport, Resident},
    metrics,
    report::{Check, Report},
    scenarios::{
        fleet::{self, Fleet},
        overload::{self, Overload},
        smoke::{self, Smoke},
        thousand::Thousand,
    },
    server::OwnServer,
};

/// Runs the scenario, prints the report and writes it where it is wanted.
pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<Report> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing");
    }
    let thousand = Thousand::new(args.seconds);
    limits::allow_streams(match args.scenario {
        ScenarioName::Smoke => smoke::CLIENTS,
        ScenarioName::Thousand => thousand.streams,
        ScenarioName::Fleet => fleet::CLIENTS * fleet::INSTANCES,
        ScenarioName::Overload => overload::OPEN_AT_MOST,
    })?;
    let (own, bench) = open(args).await?;
    let idle = bench.resident();
    let findings = match args.scenario {
        ScenarioName::Smoke => Smoke.run(&bench).await?,
        ScenarioName::Thousand => thousand.run(&bench).await?,
        ScenarioName::Fleet => Fleet::new(args.seconds).run(&bench).await?,
        ScenarioName::Overload => Overload::new(args.seconds).run(&bench).await?,
    };
    let billing = BillingReport::compare(&bench.api, &findings.tally.received).await?;
    let mut report = conclude(args.scenario, &bench, idle, findings, billing).await;
    for own in own {
        let stopped = own.stop().await;
        let seen = stopped.as_ref().map_or_else(|error| format!("{error:#}"), |()| "exit 0".to_owned());
        report.checks.push(Check::new("the node drains and ends well when it is told to stop", stopped.is_ok(), seen));
    }
    write!(std::io::stdout(), "{report}").context("cannot write to standard output")?;
    if let Some(file) = &args.json {
        write_json(&report, file)?;
    }
    Ok(report)
}

/// The node that was named, or the run's own: one, or a fleet.
async fn open(args: &RunArgs) -> anyhow::Result<(Vec<OwnServer>, Bench)> {
    let (own, address, key) = match &args.server {
        Some(address) => {
            let key = args.key.clone().context("a node of yours needs its admin key: --key or PENSTOCK_ADMIN_KEY")?;
            ensure!(args.scenario != ScenarioName::Fleet, "a fleet is started by the run itself: leave --server out");
            (Vec::new(), address.clone(), key)
        }
        None => {
            ensure!(
                args.scenario != ScenarioName::Fleet || env::var_os("DATABASE_URL").is_some(),
                "a fleet shares a database: set DATABASE_URL, or run ./bench fleet"
            );
            let settings = (args.scenario == ScenarioName::Overload).then_some(overload::MAX_STREAMS);
            let first = OwnServer::start(settings).await?;
            let (address, key) = (first.address.clone(), first.key.clone());
            let others = if args.scenario == ScenarioName::Fleet { fleet::INSTANCES - 1 } else { 0 };
            let others = try_join_all((0..others).map(|_| first.start_beside())).await?;
            (std::iter::once(first).chain(others).collect(), address, key)
        }
    };
    let pid = own.first().map(|own| own.pid);
    let api = Arc::new(Api::new(Target::new(address).await?, key));
    let mut peers = Vec::new();
    for other in own.iter().skip(1) {
        peers.push(Arc::new(Api::new(Target::new(other.address.clone()).await?, other.key.clone())));
    }
    Ok((own, Bench { api, pid, peers }))
}

/// Takes the last look at the node and puts everything together.
async fn conclude(
    name: ScenarioName,
    bench: &Bench,
    idle: Option<Resident>,
    findings: Findings,
    billing: BillingReport,
) -> Report {
    let memory = idle.zip(bench.resident()).map(|(idle, end)| MemoryReport {
        idle: idle.now,
        held: findings.held_bytes,
        peak: end.peak,
        end: end.now,
    });
    let caches = bench.api.metrics().await.map(|text| metrics::cache_counters(&text)).unwrap_or_default();
    Report {
        scenario: match name {
            ScenarioName::Smoke => "smoke",
            ScenarioName::Thousand => "thousand",
            ScenarioName::Fleet => "fleet",
            ScenarioName::Overload => "overload",
        },
        server: bench.api.target.address.to_string(),
        phases: findings.phases,
        checks: findings.checks,
        billing,
        overload: findings.overload,
        memory,
        caches,
    }
}

fn write_json(report: &Report, file: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake_node::{self, Flaw};

    async fn smoke(flaw: Flaw) -> Report {
        let bench = fake_node::start(flaw).await;
        let findings = Smoke.run(&bench).await.unwrap();
        let billing =
            BillingReport::compare_within(Duration::ZERO, &bench.api, &findings.tally.received).await.unwrap();
        conclude(ScenarioName::Smoke, &bench, None, findings, billing).await
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
        assert!(report.phases[0].streams > 0, "{report}");
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
        assert_eq!(findings.phases[0].streams, 20);
        assert!(findings.phases[1].streams >= 20, "each client of the rush streams at least once");
        let billing = BillingReport::compare(&bench.api, &findings.tally.received).await.unwrap();
        assert_eq!(billing.differences, Vec::<String>::new());
    }
}
