//! `penstock check`: the effective configuration, secrets masked, and whether each dependency answers.
//!
//! Every configured dependency is opened and checked on its own, concurrently with the others: one failure does not
//! hide another, and a first start needs all of them.

use std::{
    fmt::Display,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::join;
use penstock_actors::{
    clock::SystemClock,
    policy_evaluator::policy_in_force,
    ports::{Mark, PortResult, StoreMarks},
    storage::store_guard::{StoreGuard, StoreStanding},
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::print;
use crate::{
    config::{Config, DatabaseBackend, StorageBackend},
    telemetry::Metrics,
    wiring::{self, Database},
};

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A dependency and its answer.
type CheckedDependency = (String, CheckResult);

enum CheckResult {
    Ok,
    /// The first start makes it, on this machine.
    NotThereYet,
    Fault(String),
}

/// As JSON, the result has the dependencies alone.
pub(super) async fn run(config: &Config, io: &Handle, json: bool) -> anyhow::Result<ExitCode> {
    if !json {
        print(&config.masked())?;
    }
    let metrics = Metrics::new()?;
    let with_storage = async {
        let (told, found) = database(config, &metrics, io).await;
        (told, ("storage".to_owned(), storage(config, &metrics, io, found).await))
    };
    let ((database, storage), shared) = join(with_storage, shared_state(config, &metrics, io)).await;
    let checked: Vec<_> =
        database.into_iter().chain([storage, shared]).chain(certificate(config)).chain(headers(config).await).collect();
    let is_well = checked.iter().all(|(_, answer)| !matches!(answer, CheckResult::Fault(_)));
    if json {
        let told: Vec<_> = checked.iter().map(|(name, answer)| answer.told(name)).collect();
        print(&json!({ "ok": is_well, "dependencies": told }).to_string())?;
    } else {
        for (name, answer) in checked {
            let said = match answer {
                CheckResult::Ok => "ok".to_owned(),
                CheckResult::NotThereYet => "not there yet; `penstock serve` makes it".to_owned(),
                CheckResult::Fault(why) => why,
            };
            print(&format!("{name}: {said}"))?;
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The state of the database, to which stores may belong.
enum DatabaseState {
    /// There is none: the first start makes it, and no existing store belongs to it.
    New,
    Opened(Box<Database>),
    Silent,
}

/// The database, its replicas, and the node's governance policy, which is stored in it.
async fn database(config: &Config, metrics: &Metrics, io: &Handle) -> (Vec<CheckedDependency>, DatabaseState) {
    let is_new = config.database.backend == DatabaseBackend::Sqlite && !wiring::sqlite_path(config).exists();
    let policy = config.governance.policy.as_ref();
    let named = |name: &str, answer| (name.to_owned(), answer);
    if is_new {
        let of_policy = policy.map(|_| named("governance", CheckResult::NotThereYet));
        return (
            [named("database", CheckResult::NotThereYet)].into_iter().chain(of_policy).collect(),
            DatabaseState::New,
        );
    }
    let opened = match wiring::open_database(config, &metrics.db, io).await {
        Ok(opened) => opened,
        Err(error) => {
            let of_policy = policy.map(|_| named("governance", CheckResult::Fault("it is in the database".to_owned())));
            let fault = named("database", CheckResult::Fault(format!("{error:#}")));
            return ([fault].into_iter().chain(of_policy).collect(), DatabaseState::Silent);
        }
    };
    let mut told = vec![named("database", answers(opened.upkeep.ping()).await)];
    told.push(named("clock", answers(clock(config, &opened)).await));
    told.extend(replicas(&opened).await);
    if let Some(id) = policy {
        let standing = async { policy_in_force(&*opened.policies, id).await.map(drop) };
        told.push(named("governance", answers(standing).await));
    }
    (told, DatabaseState::Opened(Box::new(opened)))
}

/// Why the time cannot be relied on, if it cannot.
async fn clock(config: &Config, opened: &Database) -> Result<(), String> {
    let (_, watch) = wiring::watch_clock(config, opened);
    match watch.doubt().await {
        Ok(None) => Ok(()),
        Ok(Some(doubt)) => Err(format!("{doubt}: the node removes and expires nothing meanwhile")),
        Err(error) => Err(error.to_string()),
    }
}

/// Numbered from 1, in the order of the configuration.
async fn replicas(opened: &Database) -> Vec<CheckedDependency> {
    let Some(pool) = &opened.pool else { return Vec::new() };
    let pings = pool.ping_replicas().await;
    let told = |(number, ping): (usize, _)| (format!("replica {number}"), CheckResult::of(ping));
    (1..).zip(pings).map(told).collect()
}

/// The blob stores: whether they belong to the database, and answer.
async fn storage(config: &Config, metrics: &Metrics, io: &Handle, database: DatabaseState) -> CheckResult {
    let blobs = match wiring::open_storage(config, metrics, io).await {
        Ok((blobs, _)) => blobs,
        Err(error) => return CheckResult::Fault(format!("{error:#}")),
    };
    // One attempt; reading a mark would make many.
    if config.storage.backend == StorageBackend::S3
        && let fault @ CheckResult::Fault(_) = answers(blobs.ping()).await
    {
        return fault;
    }
    let standings = match database {
        DatabaseState::New => without_database(&*blobs).await,
        DatabaseState::Opened(database) => {
            let guard = StoreGuard::new(Arc::clone(&blobs), database.installations, database.index);
            standings(&guard, &*blobs).await
        }
        DatabaseState::Silent => Ok(CheckResult::Ok),
    };
    match standings {
        Ok(CheckResult::Ok) => answers(blobs.ping()).await,
        // An empty bucket exists, so it is ok.
        Ok(CheckResult::NotThereYet) if config.storage.backend == StorageBackend::S3 => CheckResult::Ok,
        Ok(answer) => answer,
        Err(error) => CheckResult::Fault(error.to_string()),
    }
}

/// The relation of all tiers' stores to the database: the worst one.
async fn standings(guard: &StoreGuard, blobs: &dyn StoreMarks) -> PortResult<CheckResult> {
    let mut answer = CheckResult::Ok;
    for tier in blobs.tiers() {
        let standing = guard.standing(tier).await?;
        match standing {
            StoreStanding::Ours | StoreStanding::Older(_) => {}
            StoreStanding::New => answer = CheckResult::NotThereYet,
            refused => {
                return Ok(CheckResult::Fault(refused.refusal(tier, &guard.place(tier), guard.installation().await?)));
            }
        }
    }
    Ok(answer)
}

/// A database that does not exist yet has no store, so a store with content belongs to another one.
async fn without_database(blobs: &dyn StoreMarks) -> PortResult<CheckResult> {
    for tier in blobs.tiers() {
        if blobs.mark(tier).await? != (Mark::None { is_empty: true }) {
            let place = blobs.place(tier);
            return Ok(CheckResult::Fault(format!(
                "there is a {tier} store at {place}, but no database that it belongs to: check DATABASE_URL and the data folder, \
                 or run `penstock migrate` and then `penstock adopt-store`"
            )));
        }
    }
    Ok(CheckResult::NotThereYet)
}

async fn shared_state(config: &Config, metrics: &Metrics, io: &Handle) -> CheckedDependency {
    let answer = match wiring::open_redis(config, metrics, io, None).await {
        Ok(link) => answers(wiring::shared_state(config, link.as_ref(), Arc::new(SystemClock)).ping()).await,
        Err(error) => CheckResult::Fault(format!("{error:#}")),
    };
    ("shared state".to_owned(), answer)
}

/// The source of headers, if there is one.
async fn headers(config: &Config) -> Option<CheckedDependency> {
    let answer = match wiring::header_source(&config.payments) {
        Ok(source) => {
            let source = source?;
            answers(async move { source.tip().await.map(drop) }).await
        }
        Err(error) => CheckResult::Fault(format!("{error:#}")),
    };
    Some(("headers".to_owned(), answer))
}

/// The certificate of the listener, if it speaks TLS.
fn certificate(config: &Config) -> Option<CheckedDependency> {
    let answer = match wiring::certificate(config)? {
        Ok(pair) => pair.fault(SystemTime::now()).map_or(CheckResult::Ok, CheckResult::Fault),
        Err(error) => CheckResult::Fault(format!("{error:#}")),
    };
    Some(("TLS certificate".to_owned(), answer))
}

async fn answers<E: Display>(ping: impl Future<Output = Result<(), E>>) -> CheckResult {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(pinged) => CheckResult::of(pinged),
        Err(_) => CheckResult::Fault(format!("no answer within {}", humantime::format_duration(PATIENCE))),
    }
}

impl CheckResult {
    fn told(&self, name: &str) -> Value {
        let (state, reason) = match self {
            Self::Ok => ("ok", None),
            Self::NotThereYet => ("new", None),
            Self::Fault(why) => ("fault", Some(why)),
        };
        json!({ "name": name, "state": state, "reason": reason })
    }

    fn of<E: Display>(ping: Result<(), E>) -> Self {
        match ping {
            Ok(()) => Self::Ok,
            Err(error) => Self::Fault(error.to_string()),
        }
    }
}
