//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

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
    /// Run a scenario and print what was measured; exit 1 on any error, difference or missed target
    Run(Box<RunArgs>),

    /// List the scenarios
    List,

    /// Print the file of a scenario, to edit it and run it as a file
    Show {
        /// The scenario
        scenario: String,
    },

    /// Compare two reports that `run --json` wrote: which differences are real; exit 1 if the second is worse in any
    CompareRuns {
        /// The report before
        before: PathBuf,
        /// The report after
        after: PathBuf,
    },
}

/// What to run, against which node.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The name of a scenario, or a file that ends with .toml
    pub(crate) scenario: String,

    /// A node that runs already; without it, the binary beside this one is started on a free port
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<Address>,

    /// Allow a target on another machine. Only for a node of yours: the load may stop it from serving others
    #[arg(long, requires = "target")]
    pub(crate) allow_remote: bool,

    /// The admin key of the target
    #[arg(long, env = "PENSTOCK_ADMIN_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,

    /// Write the report as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write the checks as a JUnit report
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,

    /// How long the measured phases last, where their ends are open; without it, as the scenario says
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
