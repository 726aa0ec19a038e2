//! `penstock confirm-clock`: an operator confirms that the database's clock is right.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::runtime::Handle;

use super::print;
use crate::{config::Config, telemetry::Metrics, wiring};

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &metrics.db, io).await?;
    let (_, watch) = wiring::watch_clock(config, &database);
    watch.measure().await.context("cannot read the database's clock")?;
    if watch.is_skewed() {
        bail!("{}; correct the wrong one of the two clocks first", watch.reported_skew());
    }
    let now = watch.confirm().await.context("cannot record the confirmed time in the database")?;
    print(&format!("{now} is the right time: running instances rely on the clock again from their next pass on"))
}
