//! The configured database: its schema, its store behind each port, and the tasks that maintain its connections.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use backon::{ExponentialBuilder, Retryable as _};
use penstock_actors::ports::{
    ApiKeys, Assets, Changes, ClientKeys, ConsoleSessions, ContentIndex, GovernancePolicies, HeaderStore, Identities,
    Installations, Ledger, LineageGraphUpkeep, LineageOutbox, LineageStore, LineageUpkeep, PayerData, Payments,
    QuarantineList, Receipts, ResumableUploads, Search, StorageMoves, StorageRecords, StorageTasks, StoredContents,
    TaskLeases, Timekeeper, Timelines, Upkeep, Verifications,
};
use tokio::runtime::Handle;

use super::lineage::LineageFaces;
use crate::{
    adapters::{
        postgres::{self, PostgresSettings, PostgresStore, ReplicaSettings},
        sqlite::{self, DatabaseFile, SqliteSettings, SqliteStore},
    },
    config::{Config, DatabaseBackend},
    telemetry::DbMetrics,
};

/// The longest wait between two attempts to reach the database at the start.
const LONGEST_START_WAIT: Duration = Duration::from_secs(5);

/// How often the connection pool is filled up to its minimum.
const TOP_UP_EVERY: Duration = Duration::from_secs(30);

/// One store behind each of its ports.
pub struct Database {
    pub ledger: Arc<dyn Ledger>,
    pub upkeep: Arc<dyn Upkeep>,
    pub index: Arc<dyn ContentIndex>,
    pub assets: Arc<dyn Assets>,
    pub changes: Arc<dyn Changes>,
    pub receipts: Arc<dyn Receipts>,
    pub resumable: Arc<dyn ResumableUploads>,
    pub search: Arc<dyn Search>,
    pub lineage: LineageFaces,
    pub policies: Arc<dyn GovernancePolicies>,
    pub storage: StorageRecords,
    pub identities: Arc<dyn Identities>,
    pub installations: Arc<dyn Installations>,
    pub api_keys: Arc<dyn ApiKeys>,
    pub client_keys: Arc<dyn ClientKeys>,
    pub console_sessions: Arc<dyn ConsoleSessions>,
    pub payers: Arc<dyn PayerData>,
    pub headers: Arc<dyn HeaderStore>,
    pub payments: Arc<dyn Payments>,
    pub timekeeper: Arc<dyn Timekeeper>,
    pub timelines: Arc<dyn Timelines>,
    pub pool: Option<PostgresStore>,
    /// The file; `None` if the database is a server.
    pub file: Option<Arc<DatabaseFile>>,
}

impl Database {
    fn of<S>(store: &Arc<S>) -> Self
    where
        S: Ledger
            + Upkeep
            + ContentIndex
            + Assets
            + Changes
            + Receipts
            + ResumableUploads
            + Search
            + GovernancePolicies
            + Identities
            + Installations
            + Timelines
            + ApiKeys
            + ClientKeys
            + ConsoleSessions
            + PayerData
            + HeaderStore
            + Payments
            + LineageStore
            + LineageOutbox
            + LineageUpkeep
            + LineageGraphUpkeep
            + Verifications
            + QuarantineList
            + StoredContents
            + StorageMoves
            + StorageTasks
            + TaskLeases
            + Timekeeper,
    {
        Self {
            ledger: Arc::<S>::clone(store),
            upkeep: Arc::<S>::clone(store),
            index: Arc::<S>::clone(store),
            assets: Arc::<S>::clone(store),
            changes: Arc::<S>::clone(store),
            receipts: Arc::<S>::clone(store),
            resumable: Arc::<S>::clone(store),
            search: Arc::<S>::clone(store),
            lineage: LineageFaces::of(store),
            policies: Arc::<S>::clone(store),
            storage: StorageRecords::of(store),
            identities: Arc::<S>::clone(store),
            installations: Arc::<S>::clone(store),
            timekeeper: Arc::<S>::clone(store),
            timelines: Arc::<S>::clone(store),
            api_keys: Arc::<S>::clone(store),
            client_keys: Arc::<S>::clone(store),
            console_sessions: Arc::<S>::clone(store),
            payers: Arc::<S>::clone(store),
            headers: Arc::<S>::clone(store),
            payments: Arc::<S>::clone(store),
            pool: None,
            file: None,
        }
    }
}

/// Opens the database without changing it.
///
/// # Errors
/// When it does not exist or does not answer.
pub async fn open_database(config: &Config, metrics: &Arc<DbMetrics>, io: &Handle) -> anyhow::Result<Database> {
    match config.database.backend {
        DatabaseBackend::Sqlite => {
            let settings = sqlite_settings(config);
            let store = SqliteStore::open(&settings, Arc::clone(metrics))
                .with_context(|| format!("cannot open {}", settings.path.display()))?;
            let file = Some(Arc::clone(store.file()));
            Ok(Database { file, ..Database::of(&Arc::new(store)) })
        }
        DatabaseBackend::Postgres => {
            let store = PostgresStore::connect(postgres_settings(config)?, Arc::clone(metrics), io.clone())
                .await
                .context("cannot connect to PostgreSQL")?;
            Ok(Database { pool: Some(store.clone()), ..Database::of(&Arc::new(store)) })
        }
    }
}

/// Migrates the database's schema to this version; returns how many migrations were applied. It waits for a database
/// that does not answer, as long as the configuration allows.
///
/// # Errors
/// When the database does not answer within the configured time, or a migration fails.
pub async fn migrate(config: &Config, io: &Handle) -> anyhow::Result<usize> {
    match config.database.backend {
        DatabaseBackend::Sqlite => {
            let settings = sqlite_settings(config);
            let migrating = io.spawn_blocking(move || sqlite::migrate(&settings));
            migrating.await.context("the migration ended early")?.context("cannot migrate the SQLite database")
        }
        DatabaseBackend::Postgres => {
            let settings = postgres_settings(config)?;
            patiently(config, || postgres::migrate(&settings)).await
        }
    }
}

/// Waits for the database and its schema as long as the configuration allows, without changing them.
///
/// # Errors
/// When it does not answer within that time, or its schema is behind.
pub async fn await_database(config: &Config) -> anyhow::Result<()> {
    if config.database.backend == DatabaseBackend::Sqlite {
        return Ok(());
    }
    let settings = postgres_settings(config)?;
    patiently(config, || postgres::await_schema(&settings)).await
}

async fn patiently<T, F>(config: &Config, attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let patience = config.database.start_timeout;
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_START_WAIT)
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(patience));
    let ended = attempt
        .retry(waits)
        .when(|error| !postgres::is_hopeless(error))
        .notify(|error, wait| {
            tracing::warn!(
                error = format!("{error:#}"),
                ?wait,
                "PostgreSQL is not ready yet; the node waits and tries again"
            );
        })
        .await;
    match ended {
        Err(error) if !postgres::is_hopeless(&error) => {
            let patience = humantime::format_duration(patience);
            Err(error.context(format!("PostgreSQL was not ready within {patience} (database.start_timeout)")))
        }
        ended => ended,
    }
}

/// The file of the embedded database.
pub fn sqlite_path(config: &Config) -> PathBuf {
    config.data.dir.join("penstock.sqlite3")
}

pub fn sqlite_settings(config: &Config) -> SqliteSettings {
    SqliteSettings {
        path: sqlite_path(config),
        readers: config.sqlite.readers,
        busy_timeout: config.sqlite.busy_timeout,
    }
}

fn postgres_settings(config: &Config) -> anyhow::Result<PostgresSettings> {
    let postgres = &config.postgres;
    let (connection, tls) = postgres.connection().map_err(|error| anyhow!("postgres.url must {error}"))?;
    let replicas = postgres.replicas().map_err(|error| anyhow!("postgres.replica_urls must {error}"))?;
    Ok(PostgresSettings {
        config: connection,
        tls,
        pool_min: postgres.pool_min,
        pool_max: postgres.pool_max,
        max_waiting: postgres.max_waiting,
        wait_timeout: postgres.wait_timeout,
        create_timeout: postgres.create_timeout,
        recycle_timeout: postgres.recycle_timeout,
        statement_timeout: postgres.statement_timeout,
        statement_mode: postgres.statement_mode,
        replicas: ReplicaSettings { servers: replicas, max_lag: postgres.replica_max_lag },
    })
}

/// Keeps the connection pool at its minimum for as long as the process lives.
pub async fn keep_pool_warm(pool: PostgresStore) {
    loop {
        if let Err(error) = pool.keep_warm().await {
            tracing::debug!(%error, "the connection pool cannot be filled up to its minimum; the next attempt follows");
        }
        tokio::time::sleep(TOP_UP_EVERY).await;
    }
}

/// Measures the replicas' lag for as long as the process lives; ends at once without replicas.
pub async fn watch_replicas(store: PostgresStore) {
    let Some(every) = store.check_replicas_every() else { return };
    loop {
        store.check_replicas().await;
        tokio::time::sleep(every).await;
    }
}
