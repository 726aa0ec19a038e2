//! `penstock sweep --dry-run`: what the Janitor would remove from the storage.

use std::process::ExitCode;

use clap::Args;
use penstock_actors::janitor::{self, JanitorDeps};
use tokio::runtime::Handle;

use super::{Settings, print};
use crate::{config::Config, telemetry::Metrics, wiring};

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Only show; the Janitor of a running node removes
    #[arg(long, required = true)]
    dry_run: bool,

    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let world = wiring::open(config, &metrics, io).await?;
    let deps = JanitorDeps::from(&world.ports);
    let settings = wiring::node_settings(config, 1).janitor;
    let report = janitor::dry_run(&deps, &settings).await?;
    print(&format!(
        "{} temporary files of {} bytes, {} blobs that the index does not know",
        report.temporary_files, report.temporary_bytes, report.orphans_removed
    ))
}
