//! The timeline of faults: what is stopped or paused while the requests of a scenario run, and when it comes back.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    deployment::Deployment,
    fault_report::FaultReport,
    plan::{FaultPlan, Part},
};

/// One step of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    at: Duration,
    fault: usize,
    is_end: bool,
}

/// The beginnings and ends in the order of time; of two at one moment the end first.
fn steps(faults: &[FaultPlan]) -> Vec<Step> {
    let both = |(fault, plan): (usize, &FaultPlan)| {
        let (from, to) = (plan.at.0, plan.at.0 + plan.r#for.0);
        [Step { at: from, fault, is_end: false }, Step { at: to, fault, is_end: true }]
    };
    let mut steps: Vec<Step> = faults.iter().enumerate().flat_map(both).collect();
    steps.sort_by_key(|step| (step.at, !step.is_end));
    steps
}

/// Makes each fault at its time, and ends each: when this returns, everything runs. `began` is the beginning of the run.
pub(crate) async fn play(
    faults: &[FaultPlan],
    deployment: &mut Deployment,
    open: &AtomicUsize,
    began: Instant,
) -> anyhow::Result<Vec<FaultReport>> {
    let first = Instant::now();
    let mut reports: Vec<FaultReport> = faults.iter().map(report).collect();
    for Step { at, fault, is_end } in steps(faults) {
        tokio::time::sleep_until((first + at).into()).await;
        let Some((part, paused)) = faults[fault].part() else { continue };
        let instance = faults[fault].instance;
        if (part, paused, is_end) == (Part::Instance, false, false) {
            reports[fault].open_when_killed = open.load(Relaxed) as u64;
        }
        let what = &reports[fault].what;
        let done = match (is_end, paused) {
            (false, false) => deployment.stop(part, instance).await,
            (false, true) => deployment.pause(part, instance),
            (true, false) => deployment.start_again(part, instance).await,
            (true, true) => deployment.resume(part, instance),
        };
        done.with_context(|| format!("the fault `{what}`"))?;
        let now = began.elapsed().as_secs_f64();
        if is_end {
            reports[fault].to = now;
        } else {
            reports[fault].from = now;
        }
    }
    reports.sort_by(|one, other| one.from.total_cmp(&other.from));
    Ok(reports)
}

fn report(plan: &FaultPlan) -> FaultReport {
    let (part, paused) = plan.part().unwrap_or((Part::Instance, false));
    let which = if part == Part::Instance { format!(" {}", plan.instance) } else { String::new() };
    let what = format!("{}{which} {}", part.name(), if paused { "paused" } else { "stopped" });
    FaultReport { what, ..FaultReport::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn plan() -> Plan {
        let text = r#"
            about = "a test"
            instances = 2
            contents = [{ size = 1 }]
            faults = [
                { at = "3s", stop = "redis", for = "4s" },
                { at = "1s", pause = "postgres", for = "2s" },
                { at = "5s", stop = "instance", for = "1s", instance = 2 },
            ]
            [[phases]]
            name = "all"
            seconds = 10
            rate = 1
            operations = [{ do = "stream" }]
        "#;
        Plan::parse("test", text).unwrap()
    }

    #[test]
    fn faults_begin_and_end_in_the_order_of_time() {
        let found: Vec<_> =
            steps(&plan().faults).iter().map(|step| (step.at.as_secs(), step.fault, step.is_end)).collect();
        let expected = [(1, 1, false), (3, 1, true), (3, 0, false), (5, 2, false), (6, 2, true), (7, 0, true)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_fault_is_told_with_what_it_was_about() {
        let told: Vec<_> = plan().faults.iter().map(|fault| report(fault).what).collect();
        assert_eq!(told, ["Redis stopped", "PostgreSQL paused", "instance 2 stopped"]);
    }
}
