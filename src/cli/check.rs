//! `penstock check`: the configuration in force, secrets masked, and whether each dependency answers.

use std::{fmt::Display, process::ExitCode, time::Duration};

use tokio::runtime::Handle;

use super::print;
use crate::{
    config::{Config, DatabaseBackend},
    telemetry::{Metrics, metrics::GovernanceMetrics},
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
    let governor = wiring::governor(config, &world, GovernanceMetrics::new(metrics.registry())?);
    let (database, storage, shared, governance) = futures_util::join!(
        answers(world.ports.upkeep.ping()),
        answers(world.ports.blobs.ping()),
        answers(world.ports.shared.ping()),
        answers(governor.standing()),
    );
    let mut code = ExitCode::SUCCESS;
    let mut told = vec![("database", database), ("storage", storage), ("shared state", shared)];
    if governor.bound_to().is_some() {
        told.push(("governance", governance));
    }
    for (name, answer) in told {
        if let Err(reason) = &answer {
            print(&format!("{name}: {reason}"))?;
            code = ExitCode::FAILURE;
        } else {
            print(&format!("{name}: ok"))?;
        }
    }
    Ok(code)
}

async fn answers<E: Display>(ping: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(PATIENCE))),
    }
}
