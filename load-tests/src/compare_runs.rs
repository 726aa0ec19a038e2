//! Whether a change between two runs is real: the intervals of batch means of both reports, measure by measure.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::statistics::Interval;

/// What is read of a report.
#[derive(Debug, Deserialize)]
struct Run {
    scenario: String,
    phases: Vec<Phase>,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
    #[serde(default)]
    open: Option<Open>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    warm_up: bool,
    intervals: BTreeMap<String, Interval>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    /// The interval of the difference includes zero.
    NotShown,
}

/// A measure of both runs.
#[derive(Debug)]
struct Row {
    phase: String,
    measure: String,
    before: f64,
    after: f64,
    difference: Interval,
    verdict: Verdict,
}

/// Two runs side by side.
#[derive(Debug)]
pub(crate) struct Comparison {
    rows: Vec<Row>,
}

/// Reads and compares two reports.
pub(crate) fn compare(before: &Path, after: &Path) -> anyhow::Result<Comparison> {
    let read = |path: &Path| -> anyhow::Result<Run> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report of a run", path.display()))
    };
    Comparison::of(&read(before)?, &read(after)?)
}

impl Comparison {
    fn of(before: &Run, after: &Run) -> anyhow::Result<Self> {
        ensure!(
            before.scenario == after.scenario,
            "the runs are of different scenarios: {} and {}",
            before.scenario,
            after.scenario
        );
        let mut rows = Vec::new();
        for (phase, then) in before.phases.iter().filter_map(|phase| Some((phase, phase.open.as_ref()?))) {
            let same = after.phases.iter().find(|other| other.name == phase.name);
            let Some(now) = same.and_then(|same| same.open.as_ref()).filter(|_| !then.warm_up) else { continue };
            for (measure, before) in &then.intervals {
                if let Some(after) = now.intervals.get(measure) {
                    rows.push(Row::of(&phase.name, measure, before, after));
                }
            }
        }
        ensure!(
            !rows.is_empty(),
            "the runs have no phase with intervals in common: compare runs of a file with a rate"
        );
        Ok(Self { rows })
    }

    pub(crate) fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Worse)
    }
}

impl Row {
    fn of(phase: &str, measure: &str, before: &Interval, after: &Interval) -> Self {
        let difference = before.difference_to(after);
        let is_time = measure.ends_with("Ms");
        let verdict = match (difference.low > 0.0, difference.high < 0.0) {
            (false, false) => Verdict::NotShown,
            (grows, _) if grows == is_time => Verdict::Worse,
            _ => Verdict::Better,
        };
        let (phase, measure) = (phase.to_owned(), measure.to_owned());
        Self { phase, measure, before: before.mean, after: after.mean, difference, verdict }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<18} {:>10} {:>10} {:>9}  99 % interval of the difference",
            "phase", "measure", "before", "after", "change"
        )?;
        for Row { phase, measure, before, after, difference: Interval { mean, low, high, .. }, verdict } in &self.rows {
            let change = if *before == 0.0 { 0.0 } else { mean / before * 100.0 };
            let verdict = match verdict {
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
                Verdict::NotShown => "no difference shown",
            };
            writeln!(
                f,
                "{phase:<12} {measure:<18} {before:>10.2} {after:>10.2} {change:>+8.1}%  {low:>+9.2} to {high:>+9.2}  {verdict}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scenario: &str, first_byte: f64, per_second: f64) -> Run {
        let values = |around: f64| -> Vec<f64> {
            let mut random = fastrand::Rng::with_seed(around.to_bits());
            (0..40).map(|_| around * (0.95 + random.f64() / 10.0)).collect()
        };
        let interval = |around| Interval::of(&values(around)).unwrap();
        let intervals = BTreeMap::from([
            ("firstByteP99Ms".to_owned(), interval(first_byte)),
            ("requestsPerSecond".to_owned(), interval(per_second)),
        ]);
        let phases = vec![Phase { name: "steady".into(), open: Some(Open { warm_up: false, intervals }) }];
        Run { scenario: scenario.into(), phases }
    }

    #[test]
    fn a_real_change_is_told_from_noise_and_its_direction_from_its_measure() {
        let before = run("steady", 10.0, 100.0);
        let verdicts = |after: &Run| -> Vec<Verdict> {
            Comparison::of(&before, after).unwrap().rows.iter().map(|row| row.verdict).collect()
        };
        assert_eq!(verdicts(&run("steady", 10.01, 100.1)), [Verdict::NotShown; 2]);
        assert_eq!(verdicts(&run("steady", 20.0, 50.0)), [Verdict::Worse; 2]);
        assert_eq!(verdicts(&run("steady", 5.0, 200.0)), [Verdict::Better; 2]);
        assert!(Comparison::of(&before, &run("steady", 20.0, 100.1)).unwrap().is_worse());
        assert!(Comparison::of(&before, &run("soak", 10.0, 100.0)).is_err());
    }

    #[test]
    fn the_report_of_a_run_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::write(
            &path,
            r#"{"scenario":"steady","phases":[{"name":"steady","seconds":1.5,"open":{"warmUp":false,"intervals":
               {"mibPerSecond":{"mean":5.0,"low":4.0,"high":6.0,"batches":40,"deviation":3.0}}}}]}"#,
        )
        .unwrap();
        let comparison = compare(&path, &path).unwrap();
        assert!(!comparison.is_worse());
        assert!(comparison.to_string().contains("no difference shown"), "{comparison}");
        assert!(compare(&path, Path::new("/nowhere")).unwrap_err().to_string().contains("cannot read"));
    }
}
