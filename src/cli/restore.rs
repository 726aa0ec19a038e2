//! `penstock restore FILE` and `penstock restore-done`: a restored database continues as a new timeline.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::runtime::Handle;

use super::{Settings, backup::POSTGRES, print};
use crate::{
    adapters::sqlite,
    config::{Config, DatabaseBackend},
    data_dir::DataDir,
    telemetry::Metrics,
    wiring,
};

/// The reason why the old timeline ends.
const SAID: &str = "an operator said that the database was restored";

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file that `penstock backup` has written
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(super) async fn run(config: &Config, file: &Path, io: &Handle) -> anyhow::Result<ExitCode> {
    if config.database.backend != DatabaseBackend::Sqlite {
        bail!(POSTGRES);
    }
    // No node runs on the folder meanwhile.
    let folder =
        DataDir::take(&config.data.dir).context("a restore needs the data folder for itself: stop the node")?;
    let last = sqlite::restore(&wiring::sqlite_settings(config), file)
        .with_context(|| format!("cannot restore {}", file.display()))?;
    if let Some(last) = last {
        print(&format!("the database that was there is kept as {}", last.display()))?;
    }
    wiring::migrate(config, io).await?;
    let ended = done(config, io).await;
    drop(folder);
    ended
}

pub(super) async fn done(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &Arc::clone(&metrics.db), io).await?;
    let last = database.timelines.timeline().await.context("cannot read the timeline of the database")?;
    let new = database.timelines.begin_timeline(last.timeline_id, SAID).await.context("cannot begin a new timeline")?;
    print(&format!(
        "a new timeline begins: {}; {} leases of {} bytes are released without a charge",
        new.timeline_id, new.leases, new.bytes
    ))
}
