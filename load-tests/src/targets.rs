//! Whether a run kept what its scenario promises.

use crate::{
    check::Check,
    measure::PhaseReport,
    plan::{Measure, TargetPlan},
    samples::Sample,
    statistics::{Interval, slope},
};

/// A check for each target and phase that it is about.
pub(crate) fn judge(targets: &[TargetPlan], phases: &[PhaseReport], samples: &[Sample]) -> Vec<Check> {
    let mut checks = Vec::new();
    for target in targets {
        match of_node(target.measure, phases, samples) {
            Some(found) => checks.push(check(target, "", found)),
            None => {
                let is_meant = |phase: &&PhaseReport| match &target.phase {
                    Some(name) => phase.name == *name,
                    None if target.measure == Measure::KneePerSecond => {
                        phase.open.as_ref().is_some_and(|open| open.knee_per_second.is_some())
                    }
                    None => phase.open.as_ref().is_some_and(|open| !open.warm_up),
                };
                for phase in phases.iter().filter(is_meant) {
                    let found = of_phase(target.measure, phase).map(Found::Value);
                    checks.push(check(target, &phase.name, found.unwrap_or(Found::Nothing)));
                }
            }
        }
    }
    checks
}

#[derive(Clone, Copy)]
enum Found {
    Value(f64),
    /// An estimate; the end of its interval that favours the node counts.
    Estimate(Interval),
    Nothing,
}

fn check(target: &TargetPlan, phase: &str, found: Found) -> Check {
    let of = if phase.is_empty() { String::new() } else { format!(" of {phase}") };
    let (sign, bound) = match (target.at_most, target.at_least) {
        (Some(bound), _) => ("at most", bound),
        (None, bound) => ("at least", bound.unwrap_or_default()),
    };
    let keeps = |low: f64, high: f64| if target.at_most.is_some() { low <= bound } else { high >= bound };
    let (kept, seen) = match found {
        Found::Value(value) => (keeps(value, value), format!("{value:.2}")),
        Found::Estimate(Interval { mean, low, high, .. }) => {
            (keeps(low, high), format!("{mean:.2}, 95 % between {low:.2} and {high:.2}"))
        }
        Found::Nothing => (false, "was not measured".to_owned()),
    };
    Check::new(format!("{}{of} is {sign} {bound}", name(target.measure)), kept, seen)
}

fn of_phase(measure: Measure, phase: &PhaseReport) -> Option<f64> {
    let open = phase.open.as_ref()?;
    Some(match measure {
        Measure::FirstByteP50Ms => phase.first_byte_ms.p50,
        Measure::FirstByteP99Ms => phase.first_byte_ms.p99,
        Measure::LastByteP50Ms => phase.total_ms.p50,
        Measure::LastByteP99Ms => phase.total_ms.p99,
        Measure::RequestsPerSecond => phase.requests_per_second,
        Measure::MibPerSecond => phase.mib_per_second,
        Measure::RefusedPercent => open.refused as f64 * 100.0 / open.due.max(1) as f64,
        Measure::NotServedPercent => {
            let failed = open.failures.values().sum::<u64>() + phase.faults.values().sum::<u64>();
            (open.refused + open.unsent + failed) as f64 * 100.0 / open.due.max(1) as f64
        }
        Measure::KneePerSecond => open.knee_per_second?,
        _ => return None,
    })
}

/// A measure of the node over the whole run, if it is one.
fn of_node(measure: Measure, phases: &[PhaseReport], samples: &[Sample]) -> Option<Found> {
    let most = |of: fn(&Sample) -> Option<f64>| {
        samples.iter().filter_map(of).reduce(f64::max).map_or(Found::Nothing, Found::Value)
    };
    let growth = |of: fn(&Sample) -> Option<f64>| growth(phases, samples, of).map_or(Found::Nothing, Found::Estimate);
    Some(match measure {
        Measure::ResidentPeakMib => most(|sample| sample.resident_mib),
        Measure::StreamsAtOnce => most(|sample| sample.streams),
        Measure::ResidentGrowthMibPerHour => growth(|sample| sample.resident_mib),
        Measure::OpenFilesGrowthPerHour => growth(|sample| sample.open_files),
        Measure::ThreadsGrowthPerHour => growth(|sample| sample.threads),
        _ => return None,
    })
}

/// Per hour, over the phases that are no warm-up.
fn growth(phases: &[PhaseReport], samples: &[Sample], of: fn(&Sample) -> Option<f64>) -> Option<Interval> {
    let measured = |at: f64| {
        phases.iter().any(|phase| {
            let in_time = |began: f64| (began..=began + phase.seconds).contains(&at);
            phase.open.as_ref().is_some_and(|open| !open.warm_up && in_time(open.began_seconds))
        })
    };
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| measured(sample.at))
        .filter_map(|sample| Some((sample.at / 3600.0, of(sample)?)))
        .collect();
    slope(&points)
}

fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::FirstByteP50Ms => "first byte, p50, ms,",
        Measure::FirstByteP99Ms => "first byte, p99, ms,",
        Measure::LastByteP50Ms => "last byte, p50, ms,",
        Measure::LastByteP99Ms => "last byte, p99, ms,",
        Measure::RequestsPerSecond => "requests per second",
        Measure::MibPerSecond => "MiB per second",
        Measure::RefusedPercent => "share of refusals, percent,",
        Measure::NotServedPercent => "share of requests that were not served, percent,",
        Measure::KneePerSecond => "knee, requests per second,",
        Measure::ResidentPeakMib => "resident memory, peak, MiB,",
        Measure::StreamsAtOnce => "streams at one time",
        Measure::ResidentGrowthMibPerHour => "growth of resident memory, MiB per hour,",
        Measure::OpenFilesGrowthPerHour => "growth of open files per hour",
        Measure::ThreadsGrowthPerHour => "growth of threads per hour",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        measure::{Phase, Tally},
        timeline::{Expected, Recorder},
    };

    fn target(measure: Measure, at_most: Option<f64>, at_least: Option<f64>) -> TargetPlan {
        TargetPlan { measure, phase: None, at_most, at_least }
    }

    fn phase() -> PhaseReport {
        let mut phase = Phase::begin("steady").end(&Tally::new());
        phase.seconds = 100.0;
        phase.first_byte_ms.p99 = 7.0;
        phase.open = Some(Recorder::new(Duration::from_secs(100), Expected::default()).report(false, Duration::ZERO));
        phase
    }

    #[test]
    fn a_target_is_kept_or_not() {
        for (at_most, at_least, kept) in
            [(Some(10.0), None, true), (Some(5.0), None, false), (None, Some(5.0), true), (None, Some(10.0), false)]
        {
            let found = judge(&[target(Measure::FirstByteP99Ms, at_most, at_least)], &[phase()], &[]);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].kept, kept, "{found:?}");
        }
    }

    #[test]
    fn a_leak_is_told_from_noise_and_a_figure_that_is_missing_is_no_success() {
        let promise = [target(Measure::ResidentGrowthMibPerHour, Some(0.0), None)];
        let samples = |leak: f64| -> Vec<Sample> {
            let mut random = fastrand::Rng::with_seed(1);
            let mut resident = |at: f64| 50.0 + leak * at + random.f64();
            (0..100)
                .map(|at| Sample {
                    at: f64::from(at),
                    resident_mib: Some(resident(f64::from(at))),
                    ..Sample::default()
                })
                .collect()
        };
        assert!(judge(&promise, &[phase()], &samples(0.0))[0].kept);
        let leaks = judge(&promise, &[phase()], &samples(0.1));
        assert!(!leaks[0].kept, "{leaks:?}");
        assert!(!judge(&promise, &[phase()], &[])[0].kept);
    }
}
