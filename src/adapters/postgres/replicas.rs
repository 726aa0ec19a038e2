//! Reads that may lag: which server they go to.
//!
//! A replica serves a read while it is known to hold everything that was committed up to a moment not longer ago than
//! `replica_max_lag`. That is measured without anybody's clock but this node's: every [`Replicas::check`] notes how far the
//! primary's log had come at a moment, and a replica that has replayed that far holds all that was committed before that
//! moment. (The age of the last replayed transaction would not do: it grows on an idle primary too.) A replica that is
//! behind or does not answer is passed over until a check finds it fit; with none fit, the primary serves.
//!
//! What anybody may ask for must not take a replica out: an answer that says no is an answer, and a search takes as long as
//! whoever asks makes it, which says nothing of the server while the checks find it well.
//!
//! Who changed something reads it: a change is noted under a [`Topic`], and reads of the topic go only to replicas that are
//! known to hold what was committed until after the change. That is so on the instance that made it, and on one that was
//! told of it; elsewhere it is seen within `replica_max_lag`. Nothing about money is read here: leases, settlement, receipts
//! and windows are the primary's.

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
    lag::{Freshness, PrimaryLog},
    pins::Pins,
};
use super::{
    columns::Columns,
    db::{Db, Param, Statement},
    error::{Fault, POSTGRES},
    gate::Lane,
    pool::PoolStatus,
};
use crate::telemetry::DbMetrics;

pub(super) use self::pins::Topic;

/// A check and a read on a replica may take so long. A replica that is slower is no help: the primary answers meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// A search may take so long there: the second after which it ends by itself (`penstock_matches`), and the last of its spans. And
/// it is longer than it takes the checks to find that a replica hangs.
const SEARCH_PATIENCE: Duration = Duration::from_secs(3);

/// Checks in the time that a replica may lag: a replica that falls behind is passed over a fifth of it too early at most.
const CHECKS: u32 = 5;

/// How often to check at most and at least: cheap for the primary, and soon enough for whoever waits for a replica.
const CHECK_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// No table at all.
const PRIMARY_LOG: Statement =
    Statement { name: "primary_log", sql: "SELECT (pg_current_wal_lsn() - '0/0')::bigint AS position", types: &[] };

/// No table at all. A server that is nobody's replica has replayed nothing.
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
    /// In the ledger's lane: a busy pool must not look like a server that is behind.
    probe: Db,
    replicas: Arc<[Replica]>,
    pins: Arc<Pins>,
    log: Arc<Mutex<PrimaryLog>>,
    max_lag: Duration,
    next: Arc<AtomicUsize>,
    metrics: Arc<DbMetrics>,
}

struct Replica {
    /// As operators count them: from 1, in the order of the configuration.
    number: String,
    db: Db,
    searches: Db,
    probe: Db,
    freshness: Freshness,
}

impl Replica {
    /// The primary answers this read. Others too, when the server is the reason; not for a table that has not come yet, a
    /// conflict with what is replayed, or a queue before its connections.
    fn failed(&self, statement: &Statement, error: &PortError) {
        tracing::debug!(replica = self.number, statement = statement.name, %error, "a replica failed a read");
        if Fault::of(error) != Fault::NotItsOwn {
            self.freshness.forget();
        }
    }
}

impl Replicas {
    pub(super) fn new(primary: &Db, servers: Vec<Db>, max_lag: Duration, metrics: Arc<DbMetrics>) -> Self {
        let probe = |db: &Db| db.in_lane(Lane::Ledger).within(PATIENCE);
        let replica = |(index, db): (usize, Db)| Replica {
            number: (index + 1).to_string(),
            probe: probe(&db),
            searches: db.within(SEARCH_PATIENCE),
            db: db.within(PATIENCE),
            freshness: Freshness::default(),
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

    /// As for the primary, but that a replica does not answer is no news: the check tells it.
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

    /// How often [`Self::check`] is to be called; `None` when there is no replica to check.
    pub(super) fn check_every(&self) -> Option<Duration> {
        let (least, most) = CHECK_EVERY;
        (!self.replicas.is_empty()).then(|| (self.max_lag / CHECKS).clamp(least, most))
    }

    /// The rows of a statement that only reads.
    pub(super) async fn rows(&self, topic: Topic, statement: &Statement, params: &[Param<'_>]) -> PortResult<Vec<Row>> {
        match self.by_replica(topic, statement, params).await {
            Some(rows) => Ok(rows),
            None => self.by_primary(statement, params).await,
        }
    }

    /// The rows of a search, which takes as long as whoever asks makes it.
    ///
    /// # Errors
    /// Also when a replica that is well has not come to an end with it: the primary would not either.
    pub(super) async fn search_rows(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<Vec<Row>> {
        if let Some(replica) = self.pick(Topic::Catalogue) {
            match replica.searches.rows(statement, params).await {
                Ok(rows) => {
                    self.metrics.read_served("replica");
                    return Ok(rows);
                }
                Err(error) if Fault::of(&error) == Fault::Late && self.is_well(replica) => return Err(error),
                Err(error) => replica.failed(statement, &error),
            }
        }
        self.by_primary(statement, params).await
    }

    /// A row that is there for good once it is there. That a replica does not have it yet proves nothing.
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

    /// `None` when there is no replica that may and can.
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

    /// From now on, who reads this sees what was committed until now.
    pub(super) fn changed(&self, topics: impl IntoIterator<Item = Topic>) {
        if !self.replicas.is_empty() {
            let now = Instant::now();
            topics.into_iter().for_each(|topic| self.pins.pin(topic, now));
        }
    }

    /// From now on, everybody sees what was committed until now.
    pub(super) fn anything_changed(&self) {
        self.pins.pin_all(Instant::now());
    }

    /// One of the replicas that may serve, each in its turn.
    fn pick(&self, topic: Topic) -> Option<&Replica> {
        let (now, pinned) = (Instant::now(), self.pins.pinned(topic));
        let first = self.next.fetch_add(1, Relaxed);
        (0..self.replicas.len())
            .map(|step| &self.replicas[first.wrapping_add(step) % self.replicas.len()])
            .find(|replica| replica.freshness.serves(now, self.max_lag, pinned))
    }

    /// Whether the checks, which have gone on meanwhile, find a replica fit.
    fn is_well(&self, replica: &Replica) -> bool {
        replica.freshness.serves(Instant::now(), self.max_lag, None)
    }

    /// Whether each replica answers and is one.
    pub(super) async fn ping(&self) -> Vec<PortResult<()>> {
        join_all(self.replicas.iter().map(|replica| async move {
            let replayed = position(&replica.probe, &REPLAYED_LOG).await?;
            replayed.map(drop).ok_or_else(|| PortError::rejected(POSTGRES, "this server is nobody's replica"))
        }))
        .await
    }

    /// Measures how far each replica is.
    pub(super) async fn check(&self) {
        let mut log = self.log.lock().await;
        let asked = Instant::now();
        match position(&self.probe, &PRIMARY_LOG).await {
            Ok(Some(position)) => log.note(asked, position),
            Ok(None) => {}
            // Without it no replica can be proven fresh; what was proven holds until it is too old.
            Err(error) => tracing::debug!(%error, "the primary's log is not known"),
        }
        let log = &*log;
        join_all(self.replicas.iter().map(|replica| async move {
            match position(&replica.probe, &REPLAYED_LOG).await {
                Ok(Some(position)) => {
                    let held = log.held_by(position);
                    self.measured(replica, held, held.or(log.oldest()).map(|since| since.elapsed()));
                }
                Ok(None) => {
                    tracing::debug!(replica = replica.number, "this server is nobody's replica");
                    self.measured(replica, None, None);
                }
                Err(error) => {
                    tracing::debug!(replica = replica.number, %error, "a replica does not answer");
                    self.measured(replica, None, None);
                }
            }
        }))
        .await;
    }

    /// `held` is until when a replica holds everything, `lag` how far it is behind, or that at least.
    fn measured(&self, replica: &Replica, held: Option<Instant>, lag: Option<Duration>) {
        let serves = held.is_some() && lag.is_some_and(|lag| lag <= self.max_lag);
        // Told once for each change.
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
