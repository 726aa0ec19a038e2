//! `penstock top`: a node at a glance, from its metrics and its health, once a second.
//!
//! On a terminal each look replaces the one before. Elsewhere, and with `--json`, the looks follow one another, for a file or a script.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::node::{NodeArgs, NodeClient};

mod figures;
mod page;

use figures::Figures;
use page::MetricsPage;

/// Shorter, and the node would be busy with the answers.
const SHORTEST: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct TopArgs {
    /// The time between two looks, at least 200ms
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = crate::words::duration)]
    interval: Duration,

    /// End after so many looks
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,

    /// Print each look as a line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    node: NodeArgs,
}

/// Looks until it is stopped, or as often as was asked for.
///
/// # Errors
/// When the first look fails: later, a node that is away is shown as such, because it may come back.
pub async fn top(args: &TopArgs) -> anyhow::Result<()> {
    let node = NodeClient::open(&args.node)?;
    let mut before = look(&node).await?;
    let mut shown = 0;
    loop {
        tokio::time::sleep(args.interval.max(SHORTEST)).await;
        let now = match look(&node).await {
            Ok(now) => now,
            Err(error) => {
                show(
                    args,
                    &json!({ "error": format!("{error:#}") }),
                    &format!("the node does not answer: {error:#}\n"),
                )?;
                Look { page: MetricsPage::default(), ..before.clone() }
            }
        };
        if !now.page.is_empty() {
            // After a node was away there is nothing to compare with.
            let since = if before.page.is_empty() { &now } else { &before };
            let figures = Figures::of(&since.page, &now.page, now.at - since.at);
            let told = json!({ "server": args.node.server.as_str(), "health": now.health, "figures": figures.json() });
            show(args, &told, &figures.screen(args.node.server.as_str(), &now.health))?;
        }
        before = now;
        shown += 1;
        if args.count.is_some_and(|count| shown >= count) {
            return Ok(());
        }
    }
}

/// What the node says at a moment.
#[derive(Clone)]
struct Look {
    at: Instant,
    page: MetricsPage,
    health: Value,
}

async fn look(node: &NodeClient) -> anyhow::Result<Look> {
    let page = MetricsPage::read(&node.text(&["metrics"]).await?);
    Ok(Look { at: Instant::now(), page, health: node.health().await? })
}

fn show(args: &TopArgs, told: &Value, screen: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = if args.json {
        writeln!(out, "{told}")
    } else if out.is_terminal() {
        // To the upper left corner, and each line over the one that stood there; what is left below goes.
        let lines = screen.replace('\n', "\x1b[K\n");
        write!(out, "\x1b[H{lines}\x1b[J")
    } else {
        writeln!(out, "{screen}")
    };
    written.and_then(|()| out.flush()).context("cannot write to standard output")
}
