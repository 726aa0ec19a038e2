//! The ledger and the catalogue on PostgreSQL: one pool for the whole process, one round trip for each call of a port.
//!
//! Every call is one statement, so it is atomic whatever becomes of the future that waits for it: a caller that leaves
//! never puts a connection back in the middle of a transaction. Where a call needs several steps under locks (leases,
//! settlement, reclaiming) the statement calls a function that a migration made. Nothing relies on session state, so
//! the pool may speak to PgBouncer in transaction mode; only [`migrate`] needs the server itself.
//!
//! What bounds it: connections by [`PostgresSettings::pool_max`], those who wait for one by `max_waiting` and
//! `wait_timeout`, a statement by `statement_timeout`. What does not fit is
//! [`Unavailable`](penstock_actors::ports::PortError::Unavailable). Which calls go first is in [`gate`].

mod api_keys;
mod catalog;
mod changes;
mod columns;
mod db;
mod error;
mod gate;
mod governance;
mod identities;
mod installations;
mod jsonb;
mod ledger;
mod lineage;
mod migrations;
mod pool;
mod reach;
mod receipts;
mod replicas;
mod search;
mod session;
mod set_aside;
mod storage;
mod timekeeper;
mod timelines;
mod tls;
mod upkeep;

use std::{sync::Arc, time::Duration};

use penstock_actors::ports::{PortError, PortResult, Tag};
use serde::Deserialize;
use tokio::runtime::Handle;

use self::{
    db::Db,
    error::POSTGRES,
    gate::Lane,
    pool::Pool,
    reach::{Reach, Role},
    replicas::{Replicas, Topic},
    tls::Tls,
};
pub use self::{
    migrations::{await_schema, is_hopeless, migrate},
    pool::PoolStatus,
    tls::{TlsIdentity, TlsMode, TlsSettings},
};
use crate::telemetry::DbMetrics;

/// How to reach PostgreSQL, and what a call may cost.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// Where and as whom.
    pub config: tokio_postgres::Config,
    pub tls: TlsSettings,
    /// Connections that [`PostgresStore::keep_warm`] keeps open.
    pub pool_min: usize,
    /// The most connections that this process opens.
    pub pool_max: usize,
    /// Calls that may wait for a connection when all are taken; further ones are turned away at once.
    pub max_waiting: usize,
    /// How long a call waits for a connection when all are taken.
    pub wait_timeout: Duration,
    /// How long opening a connection may take, all addresses together.
    pub create_timeout: Duration,
    /// How long the check of an idle connection may take.
    pub recycle_timeout: Duration,
    /// How long a statement may take. It is then cancelled on the server, unless a pooler is in between, and its connection
    /// closed.
    pub statement_timeout: Duration,
    pub statement_mode: StatementMode,
    pub replicas: ReplicaSettings,
}

/// Servers that follow the primary, for reads that may lag. Each has a pool with the bounds of the primary's.
#[derive(Debug, Clone, Default)]
pub struct ReplicaSettings {
    pub servers: Vec<(tokio_postgres::Config, TlsSettings)>,
    /// A replica that is further behind serves no reads.
    pub max_lag: Duration,
}

/// How statements reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatementMode {
    /// Prepared once a connection, under a name: the least work for the server. PgBouncer in transaction mode can do
    /// this from 1.21 on.
    Named,
    /// Parsed, bound and run in one flight without a name: works behind any PgBouncer.
    #[default]
    Unnamed,
}

/// The ledger and the catalogue on PostgreSQL. Clones share the pool.
#[derive(Clone)]
pub struct PostgresStore {
    /// For clients' requests.
    db: Db,
    /// For what streams live on.
    ledger: Db,
    /// For housekeeping.
    upkeep: Db,
    /// For clients' requests that may see what was true a moment ago.
    replicas: Replicas,
}

impl PostgresStore {
    /// Opens `pool_min` connections. Their traffic is driven on `io`, whichever runtime calls the ports.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer, `Rejected` when the settings contradict each other.
    pub async fn connect(settings: PostgresSettings, metrics: Arc<DbMetrics>, io: Handle) -> PortResult<Self> {
        let open = |config: &tokio_postgres::Config, tls: &TlsSettings, role| {
            let tls = Tls::load(tls).map_err(|error| PortError::rejected(POSTGRES, error))?;
            let reach = Reach::new(config.clone(), tls, settings.create_timeout, role, io.clone());
            let pool = Pool::new(reach, &settings, Arc::clone(&metrics))?;
            Ok::<_, PortError>(Db::new(pool, settings.statement_mode, settings.statement_timeout, Arc::clone(&metrics)))
        };
        let db = open(&settings.config, &settings.tls, Role::Primary)?;
        let servers = settings.replicas.servers.iter();
        let servers = servers.map(|(config, tls)| open(config, tls, Role::Replica)).collect::<PortResult<Vec<_>>>()?;
        db.pool().keep_warm().await?;
        Ok(Self {
            ledger: db.in_lane(Lane::Ledger),
            upkeep: db.in_lane(Lane::Upkeep),
            replicas: Replicas::new(&db, servers, settings.replicas.max_lag, metrics),
            db,
        })
    }

    /// Opens what is missing of `pool_min` connections, and closes what has been idle beyond it for long. For a timer.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer.
    pub async fn keep_warm(&self) -> PortResult<()> {
        let (primary, ()) = tokio::join!(self.db.pool().keep_warm(), self.replicas.keep_warm());
        primary
    }

    /// Measures how far the replicas are behind, which decides where reads go until the next time. For a timer.
    pub async fn check_replicas(&self) {
        self.replicas.check().await;
    }

    /// Whether each replica, in the order of the configuration, answers and is a replica.
    pub async fn ping_replicas(&self) -> Vec<PortResult<()>> {
        self.replicas.ping().await
    }

    /// How often [`Self::check_replicas`] is to be called; `None` when there are no replicas.
    pub fn check_replicas_every(&self) -> Option<Duration> {
        self.replicas.check_every()
    }

    /// Takes note of a change that was made here or elsewhere, so that who asks from now on sees it, be it that the primary
    /// must answer; `None`: of all that may have changed. Caches are to be told after this, or they fill with what was.
    pub fn heard(&self, change: Option<&Tag>) {
        match change {
            Some(Tag::Asset(id)) => self.replicas.changed([Topic::Asset(*id), Topic::Catalogue]),
            Some(Tag::Policy(_)) => self.replicas.changed([Topic::Policies]),
            // Receipts and their windows, governance, identities, and what is known of stored copies are read from the primary alone;
            // cached entries are nothing of ours.
            Some(
                Tag::Receipt(_)
                | Tag::Lineage
                | Tag::Governance(_)
                | Tag::Content(_)
                | Tag::Identity(_)
                | Tag::Key(_)
                | Tag::Recall(_)
                | Tag::Entries(_),
            ) => {}
            None => self.replicas.anything_changed(),
        }
    }

    /// The pool of connections to the primary, as gauges show it.
    pub fn pool_status(&self) -> PoolStatus {
        self.db.pool().status()
    }

    /// All pools of connections to replicas together.
    pub fn replica_pool_status(&self) -> PoolStatus {
        self.replicas.pool_status()
    }
}
