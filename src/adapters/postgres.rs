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

mod catalog;
mod changes;
mod columns;
mod db;
mod error;
mod gate;
mod ledger;
mod migrations;
mod pool;
mod receipts;
mod tls;
mod upkeep;

use std::{sync::Arc, time::Duration};

use penstock_actors::ports::{PortError, PortResult};
use serde::Deserialize;
use tokio::runtime::Handle;

use self::{db::Db, error::POSTGRES, gate::Lane, pool::Pool, tls::Tls, upkeep::Pulse};
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
    /// How long opening a connection may take.
    pub create_timeout: Duration,
    /// How long the check of an idle connection may take.
    pub recycle_timeout: Duration,
    /// How long a statement may take. It is then cancelled on the server and its connection closed.
    pub statement_timeout: Duration,
    pub statement_mode: StatementMode,
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
    pulse: Arc<Pulse>,
}

impl PostgresStore {
    /// Opens `pool_min` connections. Their traffic is driven on `io`, whichever runtime calls the ports.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer, `Rejected` when the settings contradict each other.
    pub async fn connect(settings: PostgresSettings, metrics: Arc<DbMetrics>, io: Handle) -> PortResult<Self> {
        let tls = Tls::load(&settings.tls).map_err(|error| PortError::rejected(POSTGRES, error))?;
        let pool = Pool::new(&settings.config, tls, &settings, Arc::clone(&metrics), io)?;
        pool.keep_warm().await?;
        let db = Db::new(pool, settings.statement_mode, settings.statement_timeout, metrics);
        Ok(Self { ledger: db.in_lane(Lane::Ledger), upkeep: db.in_lane(Lane::Upkeep), pulse: Arc::default(), db })
    }

    /// Opens what is missing of `pool_min` connections, and closes what has been idle beyond it for long. For a timer.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer.
    pub async fn keep_warm(&self) -> PortResult<()> {
        self.db.pool().keep_warm().await
    }

    /// The pool as gauges show it.
    pub fn pool_status(&self) -> PoolStatus {
        self.db.pool().status()
    }
}
