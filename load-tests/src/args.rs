//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::address::Address;

/// Load scenarios that speak to a Penstock node over HTTP.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario and print what was measured; exit 1 on any error or difference
    Run(RunArgs),
}

/// The scenarios, by the name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScenarioName {
    /// A little of everything in a few seconds: streams, ranges, an exact quota, a refund
    Smoke,
    /// A thousand streams held at one moment, then as many as fit
    Thousand,
    /// Ten instances on what the environment says they share, asked at random: round trips and times
    Fleet,
    /// Ten times as many streams as the node can serve, each over a new connection: what still arrives, and how the rest is refused
    Overload,
}

/// What to run, against which node.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The scenario
    pub(crate) scenario: ScenarioName,

    /// A node that runs already; without it, the binary beside this one is started on a free port
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<Address>,

    /// The admin key of that node
    #[arg(long, env = "PENSTOCK_ADMIN_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,

    /// Write the report as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// How long the phases with an open end last
    // Long enough for several rounds of each of a thousand clients, short enough to be run before every commit.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
