//! Which scenario is run: one of the files, or one of those that are more than requests at times.

use std::time::Duration;

use anyhow::Context;

use crate::{
    args::RunArgs,
    catalogue,
    plan::{FaultPlan, Plan, TargetPlan},
    scenarios::{
        fleet::{self, Fleet},
        overload::{self, Overload},
        scrape::{self, Scrape},
        smoke,
        thousand::Thousand,
    },
};

/// How long the phases of the other scenarios last: several rounds of each of a thousand clients, and short enough to be run before
/// every commit.
const SECONDS: Duration = Duration::from_secs(10);

/// Those that are more than requests at times, so that a file does not say it all.
const OTHERS: [(&str, &str); 5] = [
    ("smoke", "A little of everything in a few seconds: streams, ranges, an exact quota, a refund"),
    ("thousand", "A thousand streams held at one moment, then as many as fit"),
    ("fleet", "Ten instances with all that they share, asked at random: round trips and times"),
    ("scrape", "What a look at the metrics costs while 10,000 streams are held"),
    ("overload", "Ten times as many streams as the node can serve: what still arrives, and how the rest is refused"),
];

/// What is run.
pub(super) enum Scenario {
    Smoke,
    Thousand(Thousand),
    Fleet(Fleet),
    Overload(Overload),
    Scrape(Scrape),
    Planned(Box<Plan>),
}

impl Scenario {
    pub(super) fn find(args: &RunArgs) -> anyhow::Result<Self> {
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
    pub(super) fn streams(&self) -> usize {
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
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::Overload(_) => vec![(overload::MAX_STREAMS.0.to_owned(), overload::MAX_STREAMS.1.to_owned())],
            Self::Scrape(_) => scrape::SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            Self::Planned(plan) => plan.node.clone().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn targets(&self) -> &[TargetPlan] {
        match self {
            Self::Planned(plan) => &plan.targets,
            _ => &[],
        }
    }

    /// Instances that it is about; `None` where it is about one node.
    pub(super) fn instances(&self) -> Option<usize> {
        match self {
            Self::Fleet(_) => Some(fleet::INSTANCES),
            Self::Planned(plan) => plan.instances,
            _ => None,
        }
    }

    /// Bytes of its largest content, where faults are made.
    pub(super) fn largest(&self) -> u64 {
        match self {
            Self::Planned(plan) => plan.contents.iter().map(|contents| contents.size.0).max().unwrap_or_default(),
            _ => 0,
        }
    }

    pub(super) fn faults(&self) -> &[FaultPlan] {
        match self {
            Self::Planned(plan) => &plan.faults,
            _ => &[],
        }
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
