//! Load scenarios against a Penstock node, over HTTP alone: the harness knows the contract and none of the code.
//!
//! A scenario stores contents, makes receipts, drives streams and compares: every byte of every stream with what was
//! stored, and at the end the bytes that were received with the bytes that the node has billed. It measures on the way.
//! A difference or an error of any kind makes the run fail, so a figure that is printed belongs to a node that was right.

use std::process::ExitCode;

use clap::Parser;

mod address;
mod api;
mod args;
mod bench;
mod billing;
mod client;
mod content;
#[cfg(test)]
mod fake_node;
mod fault;
mod limits;
mod measure;
mod memory;
mod metrics;
mod report;
mod scenario;
mod scenarios;
mod server;
mod stream;

use args::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    match scenario::run(&args).await {
        Ok(report) if report.passed() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
