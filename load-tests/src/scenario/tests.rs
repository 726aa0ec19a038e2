use std::time::Duration;

use super::*;
use crate::{
    args::Output,
    fake_node::{self, Flaw},
    plan::Plan,
    scenarios::{fleet::Fleet, overload::Overload, scrape::Scrape, thousand::Thousand},
};

async fn smoke(flaw: Flaw) -> Report {
    let bench = fake_node::start(flaw).await;
    let findings = Smoke.run(&bench).await.unwrap();
    let billing =
        BillingReport::compare_within(Duration::ZERO, &bench.api, &findings.tally.received, Allowance::default())
            .await
            .unwrap();
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
    let billing = BillingReport::compare(&bench.api, &findings.tally.received, Allowance::default()).await.unwrap();
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
        let billing = BillingReport::compare(&bench.api, &findings.tally.received, Allowance::default()).await.unwrap();
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
    let billing = BillingReport::compare(&bench.api, &findings.tally.received, Allowance::default()).await.unwrap();
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
    let work = planned::prepare(&plan, &bench).await.unwrap();
    let findings = planned::run(&plan, work, &bench, Instant::now()).await.unwrap();
    let billing =
        BillingReport::compare_within(Duration::ZERO, &bench.api, &findings.tally.received, Allowance::default())
            .await
            .unwrap();
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
        output: Output::default(),
        seconds: None,
        scaled: None,
    };
    let error = run(&args).await.err().unwrap();
    assert!(error.to_string().contains("--allow-remote"), "{error}");
}
