//! Migrations, compiled in. The first instance that starts applies them.

use std::{error::Error as _, time::Duration};

use anyhow::{Context, anyhow, ensure};
use deadpool_postgres::ClientWrapper;
use tokio::runtime::Handle;
use tokio_postgres::{Client, Config, Error, error::SqlState};

use super::{
    PostgresSettings,
    error::{error_text, is_passing},
    reach::{ServerConnector, ServerRole},
    tls::Tls,
};
use crate::adapters::schema::Versions;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// The key of the lock that the migrating instance holds. It must differ from every other advisory lock in the
/// database; this one spells "penstock" in ASCII.
const LOCK: i64 = 0x7065_6e73_746f_636b;

/// The advice when the session belongs to a pooler.
const NO_SESSION: &str = "this connection leads to a pooler such as PgBouncer, which keeps no session for the lock that \
    migrations need: run `penstock migrate` with a URL of the server itself, and serve with database.migrate_at_start = \
    false (PENSTOCK_DATABASE__MIGRATE_AT_START=false)";

/// A migration may take any time, whatever the time-outs of the role are.
const UNBOUNDED: &str =
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0";

/// A time-out that a server older than PostgreSQL 17 does not know, so that it cannot be a startup option.
const UNBOUNDED_LATER: &str = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

/// How long a migration waits for a lock that another session holds, such as that of a long dump. All who want the table wait behind the
/// migration meanwhile, so this is far less than the time-out of a statement.
const LOCK_WAIT: &str = "SET lock_timeout = '500ms'";
const UNBOUNDED_LOCK_WAIT: &str = "SET lock_timeout = 0";

/// How long requests pass before a migration tries again.
const LET_PASS: Duration = Duration::from_secs(2);

/// A setting or the schema is wrong: waiting does not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct PermanentFailure(String);

/// Whether a setting or the content of the database caused an error of this module, so that a retry is of no use.
pub fn is_hopeless(error: &anyhow::Error) -> bool {
    error.is::<PermanentFailure>()
}

/// Assets that are indexed for the search in one transaction: less than a second's work, during which price changes of
/// the same assets may wait.
const ASSETS_PER_STEP: i32 = 1000;

/// Indexing this many assets takes about ten seconds.
const LOGGED_EVERY: i64 = 50_000;

/// Applies the missing migrations; returns how many. Instances that start at the same time take turns.
///
/// It opens a connection of its own, whose session holds the lock, so `settings` must lead to the server itself and not
/// to a PgBouncer in transaction mode; otherwise it fails with that reason. When the process dies, its connection ends
/// and releases the lock.
///
/// # Errors When the server does not answer, a pooler stands in front of it, a migration fails, an applied migration
/// has been changed since, or a later build made the schema and does not admit this build.
pub async fn migrate(settings: &PostgresSettings) -> anyhow::Result<usize> {
    let mut config = settings.config.clone();
    config.options(match config.get_options() {
        Some(options) => format!("{options} {UNBOUNDED}"),
        None => UNBOUNDED.to_owned(),
    });
    let reach = reach(config, settings)?;
    let opened = open(&reach).await;
    if reach.is_pooled() {
        return Err(PermanentFailure(NO_SESSION.to_owned()).into());
    }
    let mut client = opened?;
    client.execute(UNBOUNDED_LATER, &[]).await.context("cannot lift the session's time-outs")?;
    client
        .batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))
        .await
        .context("cannot take the migration lock")?;
    if known(&client).await?.is_some_and(Versions::is_later) {
        // The later build has done all that this build would do.
        return Ok(0);
    }
    let applied = apply(&mut client).await?;
    enter_assets(&client).await.context("cannot index the assets for the search")?;
    Ok(applied)
}

/// Applies the missing migrations, each in a transaction of its own; returns how many. One that does not get its locks is rolled back and
/// tried again, so that no request waits for long behind it, however long another session holds what it needs.
async fn apply(client: &mut Client) -> anyhow::Result<usize> {
    client.batch_execute(LOCK_WAIT).await.context("cannot bound the wait for locks")?;
    let mut applied = 0;
    loop {
        let ran = embedded::migrations::runner().run_async(&mut *client).await;
        let report = ran.as_ref().map_or_else(refinery::Error::report, Some);
        applied += report.map_or(0, |report| report.applied_migrations().len());
        match ran {
            Ok(_) => break,
            Err(error) if misses_lock(&error) => {
                tracing::warn!(
                    %error,
                    "another session holds a lock that a migration needs; the migration is rolled back, lets requests pass and tries again (see pg_stat_activity for transactions that have run for long)"
                );
                tokio::time::sleep(LET_PASS).await;
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    client.batch_execute(UNBOUNDED_LOCK_WAIT).await.context("cannot lift the bound on the wait for locks")?;
    Ok(applied)
}

/// Whether another session held a lock for too long, or the server broke off a deadlock.
fn misses_lock(error: &refinery::Error) -> bool {
    let state = error.source().and_then(|cause| cause.downcast_ref::<Error>()).and_then(Error::code);
    state.is_some_and(|state| [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(state))
}

/// A server that is gone may come back; an error of the migration itself would only repeat.
fn failed(error: &refinery::Error) -> anyhow::Error {
    match error.source().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) if is_passing(cause) => anyhow!("cannot migrate: {error}: {}", error_text(cause)),
        Some(cause) => PermanentFailure(format!("cannot migrate: {error}: {}", error_text(cause))).into(),
        None => PermanentFailure(format!("cannot migrate: {error}")).into(),
    }
}

/// Index assets again where a migration changed the index, one step at a time.
const STEPS: [&str; 2] = ["SELECT penstock_backfill_search($1)", "SELECT penstock_refold_search($1)"];

/// Completes V10 and V31: assets are indexed for the search in small steps, one transaction each, so that no request
/// waits for long. If the process dies, the next one does the rest.
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
                tracing::info!(assets = entered, "indexing the assets for the search");
            }
        }
    }
    if entered == 0 {
        return Ok(());
    }
    // So that the planner knows the new rows before the first searches.
    client.batch_execute("ANALYZE asset_search, asset_words").await
}

/// Succeeds when the server answers and has the schema of this version, or a later one that admits this build.
///
/// # Errors When it does not answer, or its schema is behind or does not admit this build.
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

/// The versions of this build and of the schema; `None` before the first migration. Hopeless when a later build made
/// the schema and does not admit this build.
async fn known(client: &Client) -> anyhow::Result<Option<Versions>> {
    const SCHEMA: &str = "SELECT max(version) FROM refinery_schema_history";
    const FLOOR: &str = "SELECT least_version FROM schema_floor";
    let Some(schema) = number(client, SCHEMA).await.context("cannot read the version of the schema")? else {
        return Ok(None);
    };
    let least =
        number(client, FLOOR).await.context("cannot read the least version of a build that the schema admits")?;
    let versions = Versions { schema, build: newest(), least };
    match versions.refusal() {
        Some(refusal) => Err(PermanentFailure(refusal).into()),
        None => Ok(Some(versions)),
    }
}

/// A number from a table that may not exist. Queried without a statement name, because a PgBouncer may be in between.
async fn number(client: &Client, sql: &str) -> Result<Option<i64>, Error> {
    match client.query_typed_opt(sql, &[]).await {
        Ok(row) => Ok(row.and_then(|row| row.get::<_, Option<i32>>(0)).map(i64::from)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

fn reach(config: Config, settings: &PostgresSettings) -> anyhow::Result<ServerConnector> {
    let tls = Tls::load(&settings.tls).map_err(|error| PermanentFailure(error.to_string()))?;
    Ok(ServerConnector::new(config, tls, settings.create_timeout, ServerRole::Primary, Handle::current()))
}

async fn open(reach: &ServerConnector) -> anyhow::Result<ClientWrapper> {
    reach.open().await.map_err(|unreached| {
        if unreached.is_distrust() {
            PermanentFailure(format!("no TLS connection to PostgreSQL can be trusted (postgres.tls): {unreached}"))
                .into()
        } else if unreached.is_hopeless() {
            PermanentFailure(unreached.to_string()).into()
        } else {
            anyhow!("cannot connect to PostgreSQL: {unreached}")
        }
    })
}
