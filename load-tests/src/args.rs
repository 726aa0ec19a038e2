//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};

use crate::{address::Address, plan::MOST_INSTANCES, side_by_side::Who, size::Size};

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

    /// Measure a node beside nginx, nginx that asks Redis, and nginx that asks a service on PostgreSQL, in turns; exit 1 on a missed promise
    Compare(Box<CompareArgs>),

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

    /// The service that nginx asks in a comparison; `compare` starts it
    #[command(hide = true)]
    QuotaService {
        /// The address to listen on
        bind: SocketAddr,
        /// The URL of the database
        database: String,
    },
}

/// Where a report goes beside the terminal.
#[derive(Debug, Default, Args)]
pub(crate) struct Output {
    /// Write the report as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write the checks as a JUnit report
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// What is compared, and how long.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The servers beside the node
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nginx,nginx-redis,nginx-auth-request")]
    pub(crate) against: Vec<Who>,

    /// The sizes of the files, at most 1 GiB each
    #[arg(long, value_delimiter = ',', default_value = "4KiB,64KiB,1MiB,64MiB", value_parser = compared_size)]
    pub(crate) sizes: Vec<Size>,

    /// How long each server serves a size in a round
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = round_seconds)]
    pub(crate) seconds: Duration,

    /// Rounds. The ratio has an interval from two of them on, and a narrow one from five
    #[arg(long, default_value_t = 5, value_parser = between::<2, 100>)]
    pub(crate) rounds: usize,

    /// Connections of the clients, which are kept and always busy
    #[arg(long, default_value_t = 64, value_parser = between::<1, 5000>)]
    pub(crate) connections: usize,

    /// Receipts for each size, asked for in turn
    #[arg(long, default_value_t = 100, value_parser = between::<1, 100_000>)]
    pub(crate) receipts: usize,

    #[command(flatten)]
    pub(crate) output: Output,
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

    /// Start so many instances, on a PostgreSQL behind PgBouncer, a Redis and an S3 of their own, with nginx before them
    #[arg(long, value_name = "N", conflicts_with = "target", value_parser = between::<1, MOST_INSTANCES>)]
    pub(crate) scaled: Option<usize>,

    /// The admin key of the target
    #[arg(long, env = "PENSTOCK_ADMIN_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,

    #[command(flatten)]
    pub(crate) output: Output,

    /// How long the measured phases last, where their ends are open; without it, as the scenario says
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// wrk counts whole seconds.
fn round_seconds(text: &str) -> anyhow::Result<Duration> {
    between::<1, 600>(text).map(|seconds| Duration::from_secs(seconds as u64))
}

fn between<const LEAST: usize, const MOST: usize>(text: &str) -> anyhow::Result<usize> {
    let number = text.parse()?;
    ensure!((LEAST..=MOST).contains(&number), "between {LEAST} and {MOST}");
    Ok(number)
}

fn compared_size(text: &str) -> anyhow::Result<Size> {
    let size: Size = text.parse()?;
    ensure!((1..=1 << 30).contains(&size.0), "between 1 B and 1 GiB");
    Ok(size)
}
