//! Migrations, compiled in, applied by whichever instance comes first.

use std::error::Error as _;

use anyhow::{Context, anyhow, ensure};
use deadpool_postgres::ClientWrapper;
use tokio::runtime::Handle;
use tokio_postgres::{Client, Config, Error, error::SqlState};

use super::{
    PostgresSettings,
    error::{is_passing, told},
    reach::{Reach, Role},
    tls::Tls,
};
use crate::adapters::schema::Versions;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// Names the lock that one migrating instance holds. Any number does that no other user of the database takes; this one
/// spells "penstock" in ASCII.
const LOCK: i64 = 0x7065_6e73_746f_636b;

/// What to do where the session is not ours.
const NO_SESSION: &str = "this connection leads to a pooler such as PgBouncer, which keeps no session for the lock that \
    migrations need: run `penstock migrate` with a URL of the server itself, and serve with database.migrate_at_start = \
    false (PENSTOCK_DATABASE__MIGRATE_AT_START=false)";

/// A migration takes as long as it takes, whatever the time-outs of the role are.
const UNBOUNDED: &str =
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0";

/// That of them which a server older than PostgreSQL 17 does not know, and so cannot be an option of the session.
const UNBOUNDED_LATER: &str = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

/// What is wrong is a setting or the schema: no waiting mends it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Hopeless(String);

/// Whether an error of this module comes from a setting or from what is in the database, so that trying again is of no use.
pub fn is_hopeless(error: &anyhow::Error) -> bool {
    error.is::<Hopeless>()
}

/// Assets that are entered into the search in one transaction: less than a second's work, for which price changes of the same
/// assets may wait.
const ASSETS_PER_STEP: i32 = 1000;

/// So many assets take some ten seconds.
const LOGGED_EVERY: i64 = 50_000;

/// Applies the migrations that are missing; how many those were. Instances that start at the same time take turns.
///
/// It opens a connection of its own, whose session holds the lock, so `settings` must lead to the server itself and not
/// to a PgBouncer in transaction mode: that is noticed, and said. A process that dies gives the lock back with its
/// connection.
///
/// # Errors
/// When the server does not answer, there is a pooler in front of it, a migration fails, one that was applied has been changed
/// since, or a later build made the schema and it does not let this one in.
pub async fn migrate(settings: &PostgresSettings) -> anyhow::Result<usize> {
    let mut config = settings.config.clone();
    config.options(match config.get_options() {
        Some(options) => format!("{options} {UNBOUNDED}"),
        None => UNBOUNDED.to_owned(),
    });
    let reach = reach(config, settings)?;
    let opened = open(&reach).await;
    if reach.is_pooled() {
        return Err(Hopeless(NO_SESSION.to_owned()).into());
    }
    let mut client = opened?;
    client.execute(UNBOUNDED_LATER, &[]).await.context("cannot lift the session's time-outs")?;
    client
        .batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))
        .await
        .context("cannot take the migration lock")?;
    if known(&client).await?.is_some_and(Versions::is_later) {
        // The later build has done all that this one would.
        return Ok(0);
    }
    let report = embedded::migrations::runner().run_async(&mut *client).await.map_err(|error| failed(&error))?;
    enter_assets(&client).await.context("cannot enter the assets into the search")?;
    Ok(report.applied_migrations().len())
}

/// A server that goes away comes back; what a migration fails with by itself comes again.
fn failed(error: &refinery::Error) -> anyhow::Error {
    match error.source().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) if is_passing(cause) => anyhow!("cannot migrate: {error}: {}", told(cause)),
        Some(cause) => Hopeless(format!("cannot migrate: {error}: {}", told(cause))).into(),
        None => Hopeless(format!("cannot migrate: {error}")).into(),
    }
}

/// Enters assets anew, as far as a migration changed what they are found by: a step at a time.
const STEPS: [&str; 2] = ["SELECT penstock_backfill_search($1)", "SELECT penstock_refold_search($1)"];

/// Finishes what V10 and V31 began: assets are entered into the search in small steps, each of them a transaction, so that no
/// request waits for long. A process that dies leaves the rest to the next.
async fn enter_assets(client: &Client) -> Result<(), tokio_postgres::Error> {
    let mut entered = 0;
    for step in STEPS {
        loop {
            let more: i64 = client.query_one(step, &[&ASSETS_PER_STEP]).await?.get(0);
            if more == 0 {
                break;
            }
            entered += more;
            if entered % LOGGED_EVERY == 0 {
                tracing::info!(assets = entered, "entering the assets into the search");
            }
        }
    }
    if entered == 0 {
        return Ok(());
    }
    // So that the first searches are planned by what is there.
    client.batch_execute("ANALYZE asset_search, asset_words").await
}

/// Succeeds when the server answers and has the schema of this version, or a later one.
///
/// # Errors
/// When it does not answer, or its schema is behind or does not let this build in.
pub async fn await_schema(settings: &PostgresSettings) -> anyhow::Result<()> {
    let client = open(&reach(settings.config.clone(), settings)?).await?;
    let versions = known(&client).await?;
    let (version, needed) = versions.map_or((0, newest()), |versions| (versions.schema, versions.build));
    ensure!(
        version >= needed,
        "the schema is at version {version} and this build needs {needed}: run `penstock migrate` against the server itself"
    );
    Ok(())
}

fn newest() -> i64 {
    let runner = embedded::migrations::runner();
    runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or_default()
}

/// What this build and the schema know of each other; `None` before the first migration. Hopeless when a later build made the schema
/// and it does not let this one in.
async fn known(client: &Client) -> anyhow::Result<Option<Versions>> {
    const SCHEMA: &str = "SELECT max(version) FROM refinery_schema_history";
    const FLOOR: &str = "SELECT least_version FROM schema_floor";
    let Some(schema) = number(client, SCHEMA).await.context("cannot read the version of the schema")? else {
        return Ok(None);
    };
    let least = number(client, FLOOR).await.context("cannot read what the schema asks of a build")?;
    let versions = Versions { schema, build: newest(), least };
    match versions.refusal() {
        Some(refusal) => Err(Hopeless(refusal).into()),
        None => Ok(Some(versions)),
    }
}

/// A number of a table that may not be there. Asked without a name, for there may be a PgBouncer in between.
async fn number(client: &Client, sql: &str) -> Result<Option<i64>, Error> {
    match client.query_typed_opt(sql, &[]).await {
        Ok(row) => Ok(row.and_then(|row| row.get::<_, Option<i32>>(0)).map(i64::from)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

fn reach(config: Config, settings: &PostgresSettings) -> anyhow::Result<Reach> {
    let tls = Tls::load(&settings.tls).map_err(|error| Hopeless(error.to_string()))?;
    Ok(Reach::new(config, tls, settings.create_timeout, Role::Primary, Handle::current()))
}

async fn open(reach: &Reach) -> anyhow::Result<ClientWrapper> {
    reach.open().await.map_err(|unreached| {
        if unreached.is_distrust() {
            Hopeless(format!("no TLS connection to PostgreSQL can be trusted (postgres.tls): {unreached}")).into()
        } else if unreached.is_hopeless() {
            Hopeless(unreached.to_string()).into()
        } else {
            anyhow!("cannot connect to PostgreSQL: {unreached}")
        }
    })
}
