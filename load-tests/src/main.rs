//! Load scenarios against a Penstock node, over HTTP alone: the harness knows the contract and none of the code.
//!
//! A scenario stores contents, makes receipts, drives streams and compares: every byte of every stream with what was
//! stored, and at the end the bytes that were received with the bytes that the node has billed. It measures on the way.
//! A difference or an error of any kind makes the run fail, so a figure that is printed belongs to a node that was right.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Parser;

mod address;
mod api;
mod args;
mod arrivals;
mod bench;
mod billing;
mod catalogue;
mod check;
mod client;
mod compare;
mod compare_runs;
mod content;
mod deployment;
mod drive;
#[cfg(test)]
mod fake_node;
mod fault;
mod fault_report;
mod faults;
mod hold;
mod latency;
mod limits;
mod live;
mod measure;
mod memory;
mod metrics;
mod open_report;
mod operation;
mod parts;
mod plan;
mod report;
mod samples;
mod scenario;
mod scenarios;
mod server;
mod side_by_side;
mod size;
mod statistics;
mod stream;
mod targets;
mod timeline;

use args::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Cli::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
async fn perform(command: Command) -> anyhow::Result<bool> {
    let (text, is_well) = match command {
        Command::Run(args) => return Ok(scenario::run(&args).await?.passed()),
        Command::Compare(args) => return Ok(compare::run(&args).await?.passed()),
        Command::QuotaService { bind, database } => {
            compare::quota_service::serve(bind, database).await?;
            return Ok(true);
        }
        Command::List => (scenario::list()?, true),
        Command::Show { scenario } => {
            let text = catalogue::text(&scenario).with_context(|| format!("there is no file of `{scenario}`"))?;
            (text.to_owned(), true)
        }
        Command::CompareRuns { before, after } => {
            let comparison = compare_runs::compare(&before, &after)?;
            (comparison.to_string(), !comparison.is_worse())
        }
    };
    write!(std::io::stdout(), "{text}").context("cannot write to standard output")?;
    Ok(is_well)
}
