//! `penstock log-level`: what a running instance logs.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::node::{KeyArgs, NodeArgs, NodeClient};

const PATH: [&str; 3] = ["v1", "admin", "log-level"];

/// The level to set, if any.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// The new level, as in `debug` or `info,penstock::http=debug`; without it, the present one is shown
    #[arg(value_name = "LEVEL")]
    level: Option<String>,

    /// Set the level of the configuration again
    #[arg(long, conflicts_with = "level")]
    reset: bool,

    /// Print the whole answer as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    node: NodeArgs,

    #[command(flatten)]
    key: KeyArgs,
}

/// Shows or changes the level; returns the node's answer.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn log_level(args: &LogLevelArgs) -> anyhow::Result<Value> {
    let node = NodeClient::open_with_key(&args.node, &args.key)?;
    match &args.level {
        None if !args.reset => node.page(&PATH, None).await,
        level => node.send(Method::PUT, &PATH, &json!({ "level": level })).await,
    }
}
