//! `penstock check`: the configuration in force, secrets masked, and whether each dependency answers.

use std::{process::ExitCode, time::Duration};

use penstock_actors::ports::PortResult;
use tokio::runtime::Handle;

use super::print;
use crate::{
    config::{Config, DatabaseBackend},
    telemetry::Metrics,
    wiring,
};

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    print(&config.masked())?;
    if config.database.backend == DatabaseBackend::Sqlite && !wiring::sqlite_path(config).exists() {
        return print("database: not there yet; `penstock serve` or `penstock migrate` makes it");
    }
    let metrics = Metrics::new()?;
    let world = match wiring::open(config, &metrics, io).await {
        Ok(world) => world,
        Err(error) => {
            print(&format!("dependencies: {error:#}"))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let (database, storage, shared) = futures_util::join!(
        answers(world.ports.upkeep.ping()),
        answers(world.ports.blobs.ping()),
        answers(world.ports.shared.ping()),
    );
    let mut code = ExitCode::SUCCESS;
    for (name, answer) in [("database", database), ("storage", storage), ("shared state", shared)] {
        if let Err(reason) = &answer {
            print(&format!("{name}: {reason}"))?;
            code = ExitCode::FAILURE;
        } else {
            print(&format!("{name}: ok"))?;
        }
    }
    Ok(code)
}

async fn answers(ping: impl Future<Output = PortResult<()>>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(PATIENCE))),
    }
}
