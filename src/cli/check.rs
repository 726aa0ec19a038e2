//! `penstock check`: the configuration in force, secrets masked, and whether each dependency answers.
//!
//! Every dependency that is configured is opened and asked by itself, side by side with the others: what one does not answer
//! says nothing of the next, and a first start needs all of them.

use std::{fmt::Display, process::ExitCode, time::Duration};

use futures_util::future::join;
use penstock_actors::governor::policy_in_force;
use tokio::runtime::Handle;

use super::print;
use crate::{
    config::{Config, DatabaseBackend, StorageBackend},
    telemetry::Metrics,
    wiring::{self, Database},
};

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A dependency, and what it said.
type Told = (String, Answer);

enum Answer {
    Ok,
    /// What the first start makes, on this machine.
    NotThereYet,
    Fault(String),
}

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    print(&config.masked())?;
    let metrics = Metrics::new()?;
    let (database, (storage, shared)) =
        join(database(config, &metrics, io), join(storage(config, &metrics, io), shared_state(config, &metrics, io)))
            .await;
    let mut code = ExitCode::SUCCESS;
    for (name, answer) in database.into_iter().chain([storage, shared]) {
        let said = match answer {
            Answer::Ok => "ok".to_owned(),
            Answer::NotThereYet => "not there yet; `penstock serve` makes it".to_owned(),
            Answer::Fault(why) => {
                code = ExitCode::FAILURE;
                why
            }
        };
        print(&format!("{name}: {said}"))?;
    }
    Ok(code)
}

/// The database, its replicas, and the policy in it that the node obeys.
async fn database(config: &Config, metrics: &Metrics, io: &Handle) -> Vec<Told> {
    let is_new = config.database.backend == DatabaseBackend::Sqlite && !wiring::sqlite_path(config).exists();
    let policy = config.governance.policy.as_ref();
    let named = |name: &str, answer| (name.to_owned(), answer);
    if is_new {
        let of_policy = policy.map(|_| named("governance", Answer::NotThereYet));
        return [named("database", Answer::NotThereYet)].into_iter().chain(of_policy).collect();
    }
    let opened = match wiring::open_database(config, &metrics.db, io).await {
        Ok(opened) => opened,
        Err(error) => {
            let of_policy = policy.map(|_| named("governance", Answer::Fault("it is in the database".to_owned())));
            return [named("database", Answer::Fault(format!("{error:#}")))].into_iter().chain(of_policy).collect();
        }
    };
    let mut told = vec![named("database", answers(opened.upkeep.ping()).await)];
    told.extend(replicas(&opened).await);
    if let Some(id) = policy {
        let standing = async { policy_in_force(&*opened.policies, id).await.map(drop) };
        told.push(named("governance", answers(standing).await));
    }
    told
}

/// As operators count them: from 1, in the order of the configuration.
async fn replicas(opened: &Database) -> Vec<Told> {
    let Some(pool) = &opened.pool else { return Vec::new() };
    let pings = pool.ping_replicas().await;
    let told = |(number, ping): (usize, _)| (format!("replica {number}"), Answer::of(ping));
    (1..).zip(pings).map(told).collect()
}

async fn storage(config: &Config, metrics: &Metrics, io: &Handle) -> Told {
    let is_new = config.storage.backend == StorageBackend::Fs && !config.blob_root().exists();
    let answer = if is_new {
        Answer::NotThereYet
    } else {
        match wiring::open_storage(config, metrics, io).await {
            Ok((blobs, _)) => answers(blobs.ping()).await,
            Err(error) => Answer::Fault(format!("{error:#}")),
        }
    };
    ("storage".to_owned(), answer)
}

async fn shared_state(config: &Config, metrics: &Metrics, io: &Handle) -> Told {
    let answer = match wiring::open_shared_state(config, metrics, io).await {
        Ok((shared, _)) => answers(shared.ping()).await,
        Err(error) => Answer::Fault(format!("{error:#}")),
    };
    ("shared state".to_owned(), answer)
}

async fn answers<E: Display>(ping: impl Future<Output = Result<(), E>>) -> Answer {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(pinged) => Answer::of(pinged),
        Err(_) => Answer::Fault(format!("no answer within {}", humantime::format_duration(PATIENCE))),
    }
}

impl Answer {
    fn of<E: Display>(ping: Result<(), E>) -> Self {
        match ping {
            Ok(()) => Self::Ok,
            Err(error) => Self::Fault(error.to_string()),
        }
    }
}
