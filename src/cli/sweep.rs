//! `penstock sweep`: what the Janitor would remove from the storage, and what it keeps until an operator confirms the
//! removal.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use penstock_actors::node::janitor::{self, JanitorDeps};
use serde_json::json;
use tokio::runtime::Handle;

use super::{Settings, print, working::Working};
use crate::{config::Config, telemetry::Metrics, wiring};

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["dry_run", "confirm"])]
pub(crate) struct SweepArgs {
    /// Only show; the Janitor of a running node removes
    #[arg(long)]
    dry_run: bool,

    /// Put all blobs that the database does not know into the trash, whatever their number and age
    #[arg(long)]
    confirm: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(super) async fn run(args: &SweepArgs, config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let backends = wiring::open(config, &metrics, io).await?;
    let deps = JanitorDeps::from(&backends.ports);
    let settings = wiring::node_settings(config, 1).janitor;
    if args.confirm {
        backends.store.mark_new_stores().await.context("cannot open the blob store")?;
        let working = Working::at("moving blobs to the trash");
        let report = janitor::discard_orphans(&deps, &settings).await?;
        drop(working);
        if args.json {
            let ttl = settings.trash_ttl.as_secs();
            return print(&json!({ "orphansTrashed": report.orphans_trashed, "trashTtlSeconds": ttl }).to_string());
        }
        let ttl = humantime::format_duration(settings.trash_ttl);
        return print(&format!(
            "{} blobs that the index does not know were moved to the trash, where they stay for {ttl}",
            report.orphans_trashed
        ));
    }
    let working = Working::at("looking through the storage");
    let report = janitor::dry_run(&deps, &settings).await?;
    drop(working);
    if args.json {
        let found = json!({
            "temporaryFiles": report.temporary_files,
            "temporaryBytes": report.temporary_bytes,
            "orphans": report.orphans_trashed,
            "uploadsRefused": report.uploads_refused,
        });
        return print(&found.to_string());
    }
    print(&format!(
        "{} temporary files of {} bytes, {} blobs that the index does not know, {} uploads that the storage refuses to remove",
        report.temporary_files, report.temporary_bytes, report.orphans_trashed, report.uploads_refused
    ))
}
