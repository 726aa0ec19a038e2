//! Reads that may lag: which server they go to.
//!
//! A replica serves a read while it is known to hold every commit up to a moment within `replica_max_lag`. That is
//! measured with this node's clock alone: every [`Replicas::check`] notes the position of the primary's log at a
//! moment, and a replica that has replayed up to that position holds every commit before that moment. (The age of the
//! last replayed transaction is not a measure: it grows on an idle primary too.) A replica that lags or does not answer
//! is passed over until a check succeeds; with no usable replica, the primary serves.
//!
//! A client's request must not take a replica out of use. An answer that refuses a statement is an answer. A search
//! takes as long as its query makes it, so a slow search says nothing about a server that passes its checks.
//!
//! A client that changed a thing then reads the change: the change is noted under a [`Topic`], and reads of the topic
//! go only to replicas that are known to hold all commits up to a moment after the change. That holds on the instance
//! that made the change, and on every instance that was told of it; elsewhere the change is visible within
//! `replica_max_lag`. Nothing about money is read from replicas: leases, settlement, receipts and windows are read from
//! the primary.

mod lag;
mod pins;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock_actors::ports::{PortError, PortResult};
use tokio::sync::Mutex;
use tokio_postgres::Row;

use self::{
    lag::{PrimaryLog, ReplicaFreshness},
    pins::Pins,
};
use super::{
    columns::Columns,
    db::{Db, Param, Statement},
    error::{POSTGRES, ServerFault},
    gate::PoolLane,
    pool::PoolStatus,
};
use crate::telemetry::DbMetrics;

pub(super) use self::pins::Topic;

/// The time limit of a check and of a read on a replica. A slower replica is no help: the primary answers instead.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time limit of a search: the second after which it ends by itself (`penstock_matches`), and the last of its
/// steps. It is also longer than the checks need to find that a replica hangs.
const SEARCH_PATIENCE: Duration = Duration::from_secs(3);

/// Checks per `replica_max_lag`: a replica that falls behind is passed over at most a fifth of that time too early.
const CHECKS: u32 = 5;

/// The least and the greatest interval between checks: cheap for the primary, and soon enough for reads that wait for a
/// replica.
const CHECK_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Reads no table.
const PRIMARY_LOG: Statement =
    Statement { name: "primary_log", sql: "SELECT (pg_current_wal_lsn() - '0/0')::bigint AS position", types: &[] };

/// Reads no table. A server that is not a replica has replayed nothing.
const REPLAYED_LOG: Statement = Statement {
    name: "replayed_log",
    sql: "
        SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END AS position",
    types: &[],
};

/// The primary and its replicas, for reads that may lag.
#[derive(Clone)]
pub(super) struct Replicas {
    primary: Db,
    /// In the ledger's lane: a busy pool must not look like a server that lags.
    probe: Db,
    replicas: Arc<[Replica]>,
    pins: Arc<Pins>,
    log: Arc<Mutex<PrimaryLog>>,
    max_lag: Duration,
    next: Arc<AtomicUsize>,
    metrics: Arc<DbMetrics>,
}

struct Replica {
    /// The number for logs and metrics: from 1, in the order of the configuration.
    number: String,
    db: Db,
    searches: Db,
    probe: Db,
    freshness: ReplicaFreshness,
}

impl Replica {
    /// The primary answers this read. Other reads go to it too when the server is the reason, but not when the reason
    /// is a table that is not replicated yet, a conflict with the replay, or a full queue for connections.
    fn failed(&self, statement: &Statement, error: &PortError) {
        tracing::debug!(replica = self.number, statement = statement.name, %error, "a replica failed a read; the primary answers it");
        if ServerFault::of(error) != ServerFault::NotItsOwn {
            self.freshness.forget();
        }
    }
}

impl Replicas {
    pub(super) fn new(primary: &Db, servers: Vec<Db>, max_lag: Duration, metrics: Arc<DbMetrics>) -> Self {
        let probe = |db: &Db| db.in_lane(PoolLane::Ledger).within(PATIENCE);
        let replica = |(index, db): (usize, Db)| Replica {
            number: (index + 1).to_string(),
            probe: probe(&db),
            searches: db.within(SEARCH_PATIENCE),
            db: db.within(PATIENCE),
            freshness: ReplicaFreshness::default(),
        };
        Self {
            primary: primary.clone(),
            probe: probe(primary),
            replicas: servers.into_iter().enumerate().map(replica).collect(),
            pins: Arc::default(),
            log: Arc::new(Mutex::new(PrimaryLog::spanning(max_lag))),
            max_lag,
            next: Arc::default(),
            metrics,
        }
    }

    /// As for the primary, but without a log line when a replica does not answer: the check logs that.
    pub(super) async fn keep_warm(&self) {
        join_all(self.replicas.iter().map(|replica| replica.db.pool().keep_warm())).await;
    }

    pub(super) fn pool_status(&self) -> PoolStatus {
        let each = self.replicas.iter().map(|replica| replica.db.pool().status());
        each.fold(PoolStatus::default(), |sum, pool| PoolStatus {
            size: sum.size + pool.size,
            idle: sum.idle + pool.idle,
            waiting: sum.waiting + pool.waiting,
        })
    }

    /// How often [`Self::check`] must be called; `None` without replicas.
    pub(super) fn check_every(&self) -> Option<Duration> {
        let (least, most) = CHECK_EVERY;
        (!self.replicas.is_empty()).then(|| (self.max_lag / CHECKS).clamp(least, most))
    }

    /// Returns the rows of a statement that only reads.
    pub(super) async fn rows(&self, topic: Topic, statement: &Statement, params: &[Param<'_>]) -> PortResult<Vec<Row>> {
        match self.by_replica(topic, statement, params).await {
            Some(rows) => Ok(rows),
            None => self.by_primary(statement, params).await,
        }
    }

    /// Returns the rows of a search, whose time depends on the query.
    ///
    /// # Errors
    /// Also when a healthy replica did not finish the search: the primary would not either.
    pub(super) async fn search_rows(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<Vec<Row>> {
        if let Some(replica) = self.pick(Topic::Catalogue) {
            match replica.searches.rows(statement, params).await {
                Ok(rows) => {
                    self.metrics.read_served("replica");
                    return Ok(rows);
                }
                Err(error) if ServerFault::of(&error) == ServerFault::Late && self.is_well(replica) => {
                    return Err(error);
                }
                Err(error) => replica.failed(statement, &error),
            }
        }
        self.by_primary(statement, params).await
    }

    /// Reads a row that is never deleted. If a replica lacks it, the primary is asked.
    pub(super) async fn row_opt(
        &self,
        topic: Topic,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> PortResult<Option<Row>> {
        let found = self.by_replica(topic, statement, params).await.and_then(|rows| rows.into_iter().next());
        match found {
            Some(row) => Ok(Some(row)),
            None => Ok(self.by_primary(statement, params).await?.into_iter().next()),
        }
    }

    async fn by_primary(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<Vec<Row>> {
        if !self.replicas.is_empty() {
            self.metrics.read_served("primary");
        }
        self.primary.rows(statement, params).await
    }

    /// `None` when no replica may serve, or the replica failed.
    async fn by_replica(&self, topic: Topic, statement: &Statement, params: &[Param<'_>]) -> Option<Vec<Row>> {
        let replica = self.pick(topic)?;
        match replica.db.rows(statement, params).await {
            Ok(rows) => {
                self.metrics.read_served("replica");
                Some(rows)
            }
            Err(error) => {
                replica.failed(statement, &error);
                None
            }
        }
    }

    /// Later reads of these topics see every commit up to now.
    pub(super) fn changed(&self, topics: impl IntoIterator<Item = Topic>) {
        if !self.replicas.is_empty() {
            let now = Instant::now();
            topics.into_iter().for_each(|topic| self.pins.pin(topic, now));
        }
    }

    /// All later reads see every commit up to now.
    pub(super) fn anything_changed(&self) {
        self.pins.pin_all(Instant::now());
    }

    /// One of the replicas that may serve, in turn.
    fn pick(&self, topic: Topic) -> Option<&Replica> {
        let (now, pinned) = (Instant::now(), self.pins.pinned(topic));
        let first = self.next.fetch_add(1, Relaxed);
        (0..self.replicas.len())
            .map(|step| &self.replicas[first.wrapping_add(step) % self.replicas.len()])
            .find(|replica| replica.freshness.serves(now, self.max_lag, pinned))
    }

    /// Whether the checks, which continue meanwhile, still find the replica usable.
    fn is_well(&self, replica: &Replica) -> bool {
        replica.freshness.serves(Instant::now(), self.max_lag, None)
    }

    /// Whether each replica answers and is a replica.
    pub(super) async fn ping(&self) -> Vec<PortResult<()>> {
        join_all(self.replicas.iter().map(|replica| async move {
            let replayed = position(&replica.probe, &REPLAYED_LOG).await?;
            replayed.map(drop).ok_or_else(|| PortError::rejected(POSTGRES, "this server is not a replica"))
        }))
        .await
    }

    /// Measures the lag of each replica.
    pub(super) async fn check(&self) {
        let mut log = self.log.lock().await;
        let asked = Instant::now();
        match position(&self.probe, &PRIMARY_LOG).await {
            Ok(Some(position)) => log.note(asked, position),
            Ok(None) => {}
            // Without the primary's position, no replica can be proven fresh; earlier proofs hold until they are too
            // old.
            Err(error) => {
                tracing::debug!(%error, "cannot read the log position of the primary; replicas serve reads until their last proof is too old");
            }
        }
        let log = &*log;
        join_all(self.replicas.iter().map(|replica| async move {
            match position(&replica.probe, &REPLAYED_LOG).await {
                Ok(Some(position)) => {
                    let held = log.held_by(position);
                    self.measured(replica, held, held.or(log.oldest()).map(|since| since.elapsed()));
                }
                Ok(None) => {
                    tracing::debug!(replica = replica.number, "this server is not a replica; it serves no reads");
                    self.measured(replica, None, None);
                }
                Err(error) => {
                    tracing::debug!(replica = replica.number, %error, "a replica does not answer; it serves no reads");
                    self.measured(replica, None, None);
                }
            }
        }))
        .await;
    }

    /// `held`: until when the replica holds every commit. `lag`: its lag, or a lower bound of it.
    fn measured(&self, replica: &Replica, held: Option<Instant>, lag: Option<Duration>) {
        let serves = held.is_some() && lag.is_some_and(|lag| lag <= self.max_lag);
        // Logged once per change.
        if replica.freshness.note(held, serves) {
            let (replica, max) = (&replica.number, self.max_lag);
            if serves {
                tracing::info!(replica, ?lag, "a replica serves reads");
            } else {
                tracing::warn!(replica, ?lag, ?max, "a replica is behind or gone; its reads go elsewhere");
            }
        }
        self.metrics.replica_measured(&replica.number, lag, serves);
    }
}

async fn position(db: &Db, statement: &Statement) -> PortResult<Option<i64>> {
    Columns(&db.row(statement, &[]).await?).get("position")
}
