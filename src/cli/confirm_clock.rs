//! `penstock confirm-clock`: an operator says that the database's clock is right.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::runtime::Handle;

use super::print;
use crate::{config::Config, telemetry::Metrics, wiring};

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &metrics.db, io).await?;
    let (_, watch) = wiring::watch_clock(config, &database);
    watch.measure().await.context("cannot ask the database for its time")?;
    if watch.is_skewed() {
        bail!("{}; set the wrong one of the two first", watch.told_skew());
    }
    let now = watch.confirm().await.context("the database did not take the time")?;
    print(&format!("{now} is the right time: running instances rely on the clock again from their next pass on"))
}
