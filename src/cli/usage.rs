//! `penstock usage`, one JSON object per line: usage that could not be settled (`rejected`), and the marks under which usage rows have an
//! address (`client`).

use std::{net::IpAddr, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand};
use penstock_actors::ports::SetAside;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{Settings, print};
use crate::{client_marks::mark_under, config::Config, telemetry::Metrics, wiring};

/// Rows per step.
const STEP: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Usage that the ledger can never accept, because its receipt is gone, say: it counts in no window and is charged
    /// to no receipt
    Rejected(Settings),
    /// The marks that the usage rows of a client's streams have, for each day whose key is still kept
    Client(ClientArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The client's address
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,

    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(super) async fn client(args: &ClientArgs, config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &Arc::clone(&metrics.db), io).await?;
    for (day, key) in database.client_keys.kept_keys().await? {
        print(&json!({ "day": day, "client": mark_under(&key, args.address) }).to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rejected(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &Arc::clone(&metrics.db), io).await?;
    let mut after = None;
    loop {
        let page = database.upkeep.usage_set_aside(after, STEP).await?;
        for kept in &page {
            print(&describe(kept).to_string())?;
        }
        match page.last() {
            Some(last) if page.len() == STEP as usize => after = Some(last.row.usage_id),
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn describe(SetAside { row, node, set_aside_at, reason }: &SetAside) -> Value {
    json!({
        "usageId": row.usage_id,
        "receiptId": row.receipt_id,
        "contentHash": row.content_hash,
        "sessionId": row.session_id,
        "nodeId": node,
        "startedAt": row.started_at,
        "finishedAt": row.finished_at,
        "bytesSent": row.bytes_sent,
        "requests": row.requests,
        "outcome": row.outcome.as_str(),
        "setAsideAt": set_aside_at,
        "reason": reason,
    })
}
