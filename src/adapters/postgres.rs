//! The ledger and the catalogue on PostgreSQL: one pool for the whole process, one round trip for each call of a port.
//!
//! Every call is one statement, so it is atomic even if the caller drops the future: no connection goes back to the
//! pool in the middle of a transaction. A call that needs several steps under locks (leases, settlement, reclaiming) is
//! a statement that calls a function from a migration. No statement relies on session state, so the pool may speak to
//! PgBouncer in transaction mode; only [`migrate`] needs the server itself.
//!
//! **Bound:** connections by [`PostgresSettings::pool_max`], calls that wait for one by `max_waiting` and
//! `wait_timeout`, a statement by `statement_timeout`. A call beyond these bounds fails as
//! [`Unavailable`](penstock_actors::ports::PortError::Unavailable). [`gate`] decides which calls go first.
//!
//! A port has a file of its own, of the same name as on SQLite, and so has a table that several ports use. The windows have none:
//! functions of the database keep them.

mod api_keys;
mod assets;
mod changes;
mod client_keys;
mod columns;
mod console_sessions;
mod content_index;
mod db;
mod error;
mod gate;
mod governance;
mod headers;
mod identities;
mod installations;
mod jsonb;
mod leases;
mod ledger;
mod lineage;
mod migrations;
mod payer_data;
mod payments;
mod pool;
mod quota_policies;
mod reach;
mod receipts;
mod replicas;
mod resumable_uploads;
pub(crate) mod search;
mod session;
mod set_aside;
mod storage;
mod task_leases;
mod timekeeper;
mod timelines;
mod tls;
mod trial;
mod upkeep;
mod usage;

use std::{sync::Arc, time::Duration};

use penstock_actors::ports::{PortError, PortResult, Tag};
use tokio::runtime::Handle;

use self::{
    db::Db,
    error::POSTGRES,
    gate::PoolLane,
    pool::Pool,
    reach::{ServerConnector, ServerRole},
    replicas::{Replicas, Topic},
    tls::Tls,
};
pub use self::{
    migrations::{await_schema, is_hopeless, migrate},
    pool::PoolStatus,
};
use crate::{
    config::{StatementMode, TlsSettings},
    telemetry::DbMetrics,
};

/// How to reach PostgreSQL, and what a call may cost.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// The server, the database and the user.
    pub config: tokio_postgres::Config,
    pub tls: TlsSettings,
    /// Connections that [`PostgresStore::keep_warm`] keeps open.
    pub pool_min: usize,
    /// The most connections that this process opens.
    pub pool_max: usize,
    /// Calls that may wait for a connection when all are taken; further calls are refused at once.
    pub max_waiting: usize,
    /// How long a call waits for a connection when all are taken.
    pub wait_timeout: Duration,
    /// How long opening a connection may take, all addresses together.
    pub create_timeout: Duration,
    /// How long the check of an idle connection may take.
    pub recycle_timeout: Duration,
    /// How long a statement may take. Then it is cancelled on the server, unless a pooler is in between, and its
    /// connection is closed.
    pub statement_timeout: Duration,
    pub statement_mode: StatementMode,
    pub replicas: ReplicaSettings,
}

/// Replicas of the primary, for reads that may lag. Each has a pool with the bounds of the primary's pool.
#[derive(Debug, Clone, Default)]
pub struct ReplicaSettings {
    pub servers: Vec<(tokio_postgres::Config, TlsSettings)>,
    /// A replica that lags more than this serves no reads.
    pub max_lag: Duration,
}

/// The ledger and the catalogue on PostgreSQL. Clones share the pool.
#[derive(Clone)]
pub struct PostgresStore {
    /// For clients' requests.
    db: Db,
    /// For the calls that streams depend on.
    ledger: Db,
    /// For housekeeping.
    upkeep: Db,
    /// For clients' requests that may read slightly old data.
    replicas: Replicas,
}

impl PostgresStore {
    /// Opens `pool_min` connections. Their traffic runs on `io`, whichever runtime calls the ports.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer, `Rejected` when the settings contradict each other.
    pub async fn connect(settings: PostgresSettings, metrics: Arc<DbMetrics>, io: Handle) -> PortResult<Self> {
        let open = |config: &tokio_postgres::Config, tls: &TlsSettings, role| {
            let tls = Tls::load(tls).map_err(|error| PortError::rejected(POSTGRES, error))?;
            let reach = ServerConnector::new(config.clone(), tls, settings.create_timeout, role, io.clone());
            let pool = Pool::new(reach, &settings, Arc::clone(&metrics))?;
            Ok::<_, PortError>(Db::new(pool, settings.statement_mode, settings.statement_timeout, Arc::clone(&metrics)))
        };
        let db = open(&settings.config, &settings.tls, ServerRole::Primary)?;
        let servers = settings.replicas.servers.iter();
        let servers =
            servers.map(|(config, tls)| open(config, tls, ServerRole::Replica)).collect::<PortResult<Vec<_>>>()?;
        db.pool().keep_warm().await?;
        Ok(Self {
            ledger: db.in_lane(PoolLane::Ledger),
            upkeep: db.in_lane(PoolLane::Upkeep),
            replicas: Replicas::new(&db, servers, settings.replicas.max_lag, metrics),
            db,
        })
    }

    /// Opens connections up to `pool_min`, and closes those beyond it that have been idle for long. For a timer.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer.
    pub async fn keep_warm(&self) -> PortResult<()> {
        let (primary, ()) = tokio::join!(self.db.pool().keep_warm(), self.replicas.keep_warm());
        primary
    }

    /// Measures the lag of the replicas, which decides where reads go until the next check. For a timer.
    pub async fn check_replicas(&self) {
        self.replicas.check().await;
    }

    /// Whether each replica, in the order of the configuration, answers and is a replica.
    pub async fn ping_replicas(&self) -> Vec<PortResult<()>> {
        self.replicas.ping().await
    }

    /// How often [`Self::check_replicas`] must be called; `None` when there are no replicas.
    pub fn check_replicas_every(&self) -> Option<Duration> {
        self.replicas.check_every()
    }

    /// Notes a change that was made here or on another instance, so that later reads see it, from the primary if
    /// necessary; `None`: anything may have changed. Call this before invalidating caches, or they load the old data
    /// again.
    pub fn heard(&self, change: Option<&Tag>) {
        match change {
            Some(Tag::Asset(id)) => self.replicas.changed([Topic::Asset(*id), Topic::Catalogue]),
            Some(Tag::QuotaPolicy(_)) => self.replicas.changed([Topic::Policies]),
            // Receipts and their windows, governance, identities and records of stored copies are read from the primary
            // alone; tags of cached entries concern no data here.
            Some(
                Tag::Receipt(_)
                | Tag::Lineage
                | Tag::Governance(_)
                | Tag::Content(_)
                | Tag::Identity(_)
                | Tag::Key(_)
                | Tag::Recall(_)
                | Tag::EndStream(_)
                | Tag::Entries(_),
            ) => {}
            None => self.replicas.anything_changed(),
        }
    }

    /// The pool of connections to the primary, for gauges.
    pub fn pool_status(&self) -> PoolStatus {
        self.db.pool().status()
    }

    /// All pools of connections to replicas together.
    pub fn replica_pool_status(&self) -> PoolStatus {
        self.replicas.pool_status()
    }
}
