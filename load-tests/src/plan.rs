//! A scenario as a file: what is stored, which requests come at which times, and what the node promises under them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use serde::Deserialize;

use crate::size::Size;

mod check;
mod span;

pub(crate) use check::MOST_INSTANCES;
pub(crate) use span::Span;

/// A scenario that was read from a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The name on the command line; not in the file.
    #[serde(skip)]
    pub(crate) name: String,
    /// One line for the list of scenarios.
    pub(crate) about: String,
    /// Of all that is random: the same seed gives the same requests at the same times.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    #[serde(default = "unlimited")]
    pub(crate) tier: String,
    /// Requests that may be open at a time. A request that is due while so many are open is not sent, and fails the run.
    #[serde(default = "max_open")]
    pub(crate) max_open: usize,
    #[serde(default = "max_requests")]
    pub(crate) max_requests: u64,
    #[serde(default = "two")]
    pub(crate) receipts_per_content: usize,
    /// The exponent of the popularity of contents; 0: all alike.
    #[serde(default)]
    pub(crate) zipf: f64,
    /// Assets that are made before, for searches to find.
    #[serde(default)]
    pub(crate) assets: usize,
    /// The limits of the tier, which the run then makes, in place of `tier`.
    #[serde(default)]
    pub(crate) quota: Option<Quota>,
    /// So many instances, with all that they share; one node by itself without.
    pub(crate) instances: Option<usize>,
    /// Environment variables of the nodes that the run starts.
    #[serde(default)]
    pub(crate) node: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) contents: Vec<Contents>,
    pub(crate) phases: Vec<PhasePlan>,
    /// What is stopped or paused while the phases run.
    #[serde(default)]
    pub(crate) faults: Vec<FaultPlan>,
    #[serde(default)]
    pub(crate) targets: Vec<TargetPlan>,
}

/// The limits of a receipt.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quota {
    pub(crate) requests_per_month: Option<u64>,
    pub(crate) bytes_per_month: Option<Size>,
    pub(crate) max_concurrent_streams: Option<u32>,
}

/// A fault of the timeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultPlan {
    /// After the first request was due.
    pub(crate) at: Span,
    /// Ends with all of its processes at once, and is started again.
    pub(crate) stop: Option<Part>,
    /// Stands still, so that its connections stay and it does not answer.
    pub(crate) pause: Option<Part>,
    pub(crate) r#for: Span,
    /// Which instance, from 1 on.
    #[serde(default = "first")]
    pub(crate) instance: usize,
}

impl FaultPlan {
    /// The part, and whether it is only paused.
    pub(crate) fn part(&self) -> Option<(Part, bool)> {
        self.stop.map(|part| (part, false)).or(self.pause.map(|part| (part, true)))
    }
}

/// A part of what a run has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Postgres,
    Pgbouncer,
    Redis,
    S3,
    Balancer,
    Instance,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Pgbouncer => "PgBouncer",
            Self::Redis => "Redis",
            Self::S3 => "S3",
            Self::Balancer => "balancer",
            Self::Instance => "instance",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    pub(crate) size: Size,
    #[serde(default = "one_of")]
    pub(crate) count: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhasePlan {
    pub(crate) name: String,
    /// Its requests are checked and billed, and its times are left out of targets and intervals.
    #[serde(default)]
    pub(crate) warm_up: bool,
    #[serde(default)]
    pub(crate) seconds: f64,
    /// Requests per second, at random times (Poisson).
    pub(crate) rate: Option<f64>,
    /// The rate as a part of the knee that an earlier phase has found.
    pub(crate) of_knee: Option<f64>,
    /// So many requests, evenly over `seconds`; at one moment if that is 0.
    pub(crate) burst: Option<u64>,
    /// Rates that grow until the node can do no more.
    pub(crate) ramp: Option<Ramp>,
    /// Whether 429 and 503 are answers to be expected; they must have a problem document and Retry-After in any case.
    #[serde(default)]
    pub(crate) may_refuse: bool,
    /// Whether requests may also fail, because something is stopped. Wrong bytes and wrong heads are errors all the same.
    #[serde(default)]
    pub(crate) may_fail: bool,
    pub(crate) operations: Vec<Operation>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ramp {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) factor: f64,
    pub(crate) step_seconds: f64,
    /// A step is past the knee when less than this part of its requests is served within it.
    #[serde(default = "served")]
    pub(crate) served: f64,
    /// Or when 99 of 100 first bytes take longer than this.
    #[serde(default = "first_byte_within")]
    pub(crate) first_byte_p99_ms: f64,
}

/// One kind of request of a phase.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) r#do: Kind,
    #[serde(default = "one_part")]
    pub(crate) weight: u32,
    /// Bytes of a range, or of an upload.
    pub(crate) size: Option<Size>,
    /// Bytes per second that the client reads.
    pub(crate) pace: Option<Size>,
    /// Ranges of a storm, or events of a lineage request.
    pub(crate) count: Option<u32>,
    /// Whether each request opens a connection of its own.
    #[serde(default)]
    pub(crate) new_connection: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A whole content.
    Stream,
    /// A range at a random place.
    Range,
    /// Many ranges one after the other, as a player that seeks.
    RangeStorm,
    /// Leaves in the middle of a content.
    Abort,
    Upload,
    Search,
    Lineage,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Range => "range",
            Self::RangeStorm => "range-storm",
            Self::Abort => "abort",
            Self::Upload => "upload",
            Self::Search => "search",
            Self::Lineage => "lineage",
        }
    }

    fn needs_contents(self) -> bool {
        matches!(self, Self::Stream | Self::Range | Self::RangeStorm | Self::Abort)
    }
}

/// A promise about a measure.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetPlan {
    pub(crate) measure: Measure,
    /// Of this phase; of every phase that is no warm-up without.
    pub(crate) phase: Option<String>,
    pub(crate) at_most: Option<f64>,
    pub(crate) at_least: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    FirstByteP50Ms,
    FirstByteP99Ms,
    LastByteP50Ms,
    LastByteP99Ms,
    RequestsPerSecond,
    MibPerSecond,
    RefusedPercent,
    /// Refused, failed, or not sent.
    NotServedPercent,
    KneePerSecond,
    /// The following are the node's own figures, over the whole run.
    ResidentPeakMib,
    StreamsAtOnce,
    /// Growth over the phases that are no warm-up: the lower end of the 95 % interval counts, so that noise is no leak.
    ResidentGrowthMibPerHour,
    OpenFilesGrowthPerHour,
    ThreadsGrowthPerHour,
}

impl Plan {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Name the key that is wrong.
    pub(crate) fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let mut plan: Self = toml::from_str(text).with_context(|| format!("the scenario {name} cannot be read"))?;
        plan.name = name.to_owned();
        plan.check().with_context(|| format!("the scenario {name} cannot be run"))?;
        Ok(plan)
    }

    /// Sets the length of every phase that has a rate and is no warm-up.
    pub(crate) fn set_seconds(&mut self, time: Duration) -> anyhow::Result<()> {
        let of_rate = |phase: &&mut PhasePlan| !phase.warm_up && (phase.rate.is_some() || phase.of_knee.is_some());
        self.phases.iter_mut().filter(of_rate).for_each(|phase| phase.seconds = time.as_secs_f64());
        self.check()
    }
}

fn one() -> u64 {
    1
}

fn one_of() -> usize {
    1
}

fn first() -> usize {
    1
}

fn one_part() -> u32 {
    1
}

fn two() -> usize {
    2
}

fn unlimited() -> String {
    "unlimited".to_owned()
}

fn max_open() -> usize {
    2000
}

fn max_requests() -> u64 {
    1_000_000
}

fn served() -> f64 {
    0.95
}

fn first_byte_within() -> f64 {
    250.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        about = "a test"
        [[contents]]
        size = "64 KiB"
        [[phases]]
        name = "steady"
        seconds = 2
        rate = 50
        operations = [{ do = "stream" }, { do = "range", size = 100, weight = 3 }]
        [[targets]]
        measure = "first_byte_p99_ms"
        at_most = 10
    "#;

    #[test]
    fn a_file_is_read() {
        let plan = Plan::parse("test", GOOD).unwrap();
        assert_eq!(plan.contents[0].size, Size(65_536));
        assert_eq!(plan.phases[0].operations[1].weight, 3);
        assert_eq!((plan.seed, plan.max_open, plan.zipf), (1, 2000, 0.0));
    }

    #[test]
    fn a_file_that_is_wrong_gets_a_message_with_the_key() {
        for (wrong, by, message) in [
            ("about = \"a test\"", "", "about"),
            ("seconds = 2", "secs = 2", "unknown field `secs`"),
            ("rate = 50", "rate = \"many\"", "rate"),
            ("rate = 50", "rate = -1", "phases[0].rate: -1 is not between"),
            ("rate = 50", "rate = nan", "phases[0].rate: NaN is not between"),
            ("rate = 50", "", "phases[0]: needs exactly one of rate"),
            ("rate = 50", "of_knee = 0.7", "phases[0].of_knee"),
            ("rate = 50", "rate = 150000\nburst = 3", "phases[0]: needs exactly one of rate"),
            ("seconds = 2", "seconds = 100000", "phases[0].seconds"),
            ("seconds = 2", "seconds = 80000", "max_requests: the phases ask for 4000000"),
            ("\"64 KiB\"", "\"64 kB\"", "such as 4096 or"),
            ("\"64 KiB\"", "\"5 GiB\"", "contents[0].size"),
            ("do = \"stream\"", "do = \"dance\"", "unknown variant `dance`"),
            ("do = \"stream\"", "do = \"search\"", "phases[0].operations[0].do: `search` needs assets"),
            ("size = 100, ", "", "phases[0].operations[1].size: `range` needs it"),
            ("do = \"stream\"", "do = \"stream\", count = 3", "phases[0].operations[0].count: is of no use"),
            ("at_most = 10", "", "targets[0]: needs either at_most or at_least"),
            ("at_most = 10", "at_most = 10\nphase = \"other\"", "targets[0].phase: there is no phase `other`"),
            ("about = \"a test\"", "about = \"a test\"\ninstances = 0", "instances: 0 is not between"),
            ("about = \"a test\"", "about = \"a test\"\nquota = {}", "quota: must limit something"),
            (
                "about = \"a test\"",
                "about = \"a test\"\nfaults = [{ at = \"1s\", for = \"1s\" }]",
                "faults[0]: needs either stop",
            ),
            (
                "about = \"a test\"",
                "about = \"a test\"\nfaults = [{ at = \"1s\", stop = \"redis\", for = \"1s\" }]",
                "faults[0].stop: the run has no Redis of its own without `instances`",
            ),
            (
                "about = \"a test\"",
                "about = \"a test\"\nfaults = [{ at = \"1s\", stop = \"instance\", for = \"9s\" }]",
                "faults[0]: ends 10 s after the beginning",
            ),
            (
                "about = \"a test\"",
                "about = \"a test\"\nfaults = [{ at = \"soon\", stop = \"instance\", for = \"9s\" }]",
                "such as \"20s\"",
            ),
            ("first_byte_p99_ms", "first_byte_p98_ms", "unknown variant `first_byte_p98_ms`"),
        ] {
            assert!(GOOD.contains(wrong), "{wrong}");
            let error = format!("{:#}", Plan::parse("test", &GOOD.replace(wrong, by)).unwrap_err());
            assert!(error.contains(message), "{wrong} -> {by}: {error}");
        }
    }

    #[test]
    fn the_length_on_the_command_line_is_that_of_the_measured_phases() {
        let mut plan = Plan::parse("test", GOOD).unwrap();
        plan.set_seconds(Duration::from_secs(5)).unwrap();
        assert_eq!(plan.phases[0].seconds, 5.0);
        assert!(plan.set_seconds(Duration::from_secs(80_000)).is_err(), "the bounds hold for it too");
    }
}
