//! A scenario as a file: what is stored, which requests come at which times, and what the node promises under them.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context, ensure};
use serde::{Deserialize, Deserializer, de};

/// The bounds of every scenario, whatever its file says.
const MOST_REQUESTS: u64 = 50_000_000;
const MOST_OPEN: usize = 20_000;
const MOST_SECONDS: f64 = 24.0 * 3600.0;
const MOST_PER_SECOND: f64 = 200_000.0;
/// Contents are held in memory, to be compared.
const MOST_CONTENT_BYTES: u64 = 4 << 30;

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
    /// Environment variables of the node that the run starts.
    #[serde(default)]
    pub(crate) node: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) contents: Vec<Contents>,
    pub(crate) phases: Vec<PhasePlan>,
    #[serde(default)]
    pub(crate) targets: Vec<TargetPlan>,
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

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.phases.is_empty(), "phases: there must be one at least");
        within("max_open", self.max_open as f64, 1.0, MOST_OPEN as f64)?;
        within("max_requests", self.max_requests as f64, 1.0, MOST_REQUESTS as f64)?;
        within("receipts_per_content", self.receipts_per_content as f64, 1.0, 10_000.0)?;
        within("zipf", self.zipf, 0.0, 5.0)?;
        within("assets", self.assets as f64, 0.0, 100_000.0)?;
        let mut bytes = 0;
        for (at, contents) in self.contents.iter().enumerate() {
            within(&format!("contents[{at}].count"), contents.count as f64, 1.0, 100_000.0)?;
            within(&format!("contents[{at}].size"), contents.size.0 as f64, 1.0, MOST_CONTENT_BYTES as f64)?;
            bytes += contents.size.0 * contents.count as u64;
        }
        ensure!(bytes <= MOST_CONTENT_BYTES, "contents: {bytes} bytes are too many; at most {MOST_CONTENT_BYTES}");
        let (mut seconds, mut requests, mut has_knee) = (0.0, 0.0, false);
        for (at, phase) in self.phases.iter().enumerate() {
            phase.check(&format!("phases[{at}]"), self, has_knee)?;
            has_knee |= phase.ramp.is_some();
            seconds += phase.seconds;
            requests += phase.rate.map_or(0.0, |rate| rate * phase.seconds) + phase.burst.unwrap_or(0) as f64;
        }
        within("phases: all seconds together", seconds, 0.0, MOST_SECONDS)?;
        ensure!(
            requests <= self.max_requests as f64,
            "max_requests: the phases ask for {requests:.0} requests, and {} are allowed",
            self.max_requests
        );
        for (at, target) in self.targets.iter().enumerate() {
            ensure!(
                target.at_most.is_some() != target.at_least.is_some(),
                "targets[{at}]: needs either at_most or at_least"
            );
            if let Some(name) = &target.phase {
                let there = self.phases.iter().any(|phase| phase.name == *name);
                ensure!(there, "targets[{at}].phase: there is no phase `{name}`");
            }
        }
        Ok(())
    }
}

impl PhasePlan {
    fn check(&self, key: &str, plan: &Plan, has_knee: bool) -> anyhow::Result<()> {
        let loads = [self.rate.is_some(), self.of_knee.is_some(), self.burst.is_some(), self.ramp.is_some()];
        ensure!(
            loads.iter().filter(|given| **given).count() == 1,
            "{key}: needs exactly one of rate, of_knee, burst and ramp"
        );
        let shortest = if self.burst.is_some() || self.ramp.is_some() { 0.0 } else { 0.1 };
        within(&format!("{key}.seconds"), self.seconds, shortest, MOST_SECONDS)?;
        if let Some(rate) = self.rate {
            within(&format!("{key}.rate"), rate, 0.01, MOST_PER_SECOND)?;
        }
        if let Some(part) = self.of_knee {
            within(&format!("{key}.of_knee"), part, 0.01, 20.0)?;
            ensure!(has_knee, "{key}.of_knee: a phase before must have a ramp, which finds the knee");
        }
        if let Some(burst) = self.burst {
            within(&format!("{key}.burst"), burst as f64, 1.0, plan.max_open as f64)?;
        }
        if let Some(ramp) = &self.ramp {
            within(&format!("{key}.ramp.from"), ramp.from, 0.01, MOST_PER_SECOND)?;
            within(&format!("{key}.ramp.to"), ramp.to, ramp.from, MOST_PER_SECOND)?;
            within(&format!("{key}.ramp.factor"), ramp.factor, 1.01, 10.0)?;
            within(&format!("{key}.ramp.step_seconds"), ramp.step_seconds, 0.1, 600.0)?;
            within(&format!("{key}.ramp.served"), ramp.served, 0.1, 1.0)?;
            within(&format!("{key}.ramp.first_byte_p99_ms"), ramp.first_byte_p99_ms, 0.1, 60_000.0)?;
        }
        ensure!(!self.operations.is_empty(), "{key}.operations: there must be one at least");
        for (at, operation) in self.operations.iter().enumerate() {
            operation.check(&format!("{key}.operations[{at}]"), plan)?;
        }
        Ok(())
    }
}

impl Operation {
    fn check(&self, key: &str, plan: &Plan) -> anyhow::Result<()> {
        within(&format!("{key}.weight"), f64::from(self.weight), 1.0, 1e6)?;
        let name = self.r#do.name();
        let allowed = |field: &str, given: bool, allowed: bool| {
            ensure!(!given || allowed, "{key}.{field}: is of no use to `{name}`");
            Ok(())
        };
        let needs_size = matches!(self.r#do, Kind::Range | Kind::RangeStorm | Kind::Upload);
        allowed("size", self.size.is_some(), needs_size)?;
        ensure!(self.size.is_some() || !needs_size, "{key}.size: `{name}` needs it");
        if let Some(size) = self.size {
            within(&format!("{key}.size"), size.0 as f64, 8.0, (1_u64 << 30) as f64)?;
        }
        allowed("pace", self.pace.is_some(), matches!(self.r#do, Kind::Stream | Kind::Abort))?;
        if let Some(pace) = self.pace {
            within(&format!("{key}.pace"), pace.0 as f64, 1024.0, 1e12)?;
        }
        allowed("count", self.count.is_some(), matches!(self.r#do, Kind::RangeStorm | Kind::Lineage))?;
        within(&format!("{key}.count"), f64::from(self.count.unwrap_or(1)), 1.0, 1000.0)?;
        ensure!(
            !self.r#do.needs_contents() || !plan.contents.is_empty(),
            "{key}.do: `{name}` needs contents, and there are none"
        );
        ensure!(self.r#do != Kind::Search || plan.assets > 0, "{key}.do: `search` needs assets, and there are none");
        Ok(())
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> anyhow::Result<()> {
    ensure!(value >= least && value <= most, "{key}: {value} is not between {least} and {most}");
    Ok(())
}

/// A number of bytes: 4096, or "4 KiB".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, such as 4096 or \"4 KiB\" (B, KiB, MiB, GiB)")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                size(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Text)
    }
}

fn size(text: &str) -> Option<Size> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim() {
        "B" | "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).map(Size)
}

fn one() -> u64 {
    1
}

fn one_of() -> usize {
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
