//! The pool: warm connections, whose traffic does not depend on the thread that asked for them.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool::managed::{self, Manager, Metrics, QueueMode, RecycleError, RecycleResult};
use deadpool_postgres::{ClientWrapper, Runtime};
use futures::future::join_all;
use penstock_actors::ports::{PortError, PortResult};
use tokio::time::timeout;

use super::{
    PostgresSettings,
    error::{POSTGRES, error_text, from_pool, turned},
    gate::{ConnectionPermit, Gate, GateRefusal, PoolLane},
    reach::{NoUsableServer, ServerConnector},
    trial::Trial,
};
use crate::telemetry::DbMetrics;

/// A connection beyond the minimum is closed when it has been idle for this long: longer than the lulls of a busy node,
/// and short enough to free the server's connections for other clients after a peak.
const SURPLUS_IDLE: Duration = Duration::from_secs(300);

/// Connections, for gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// Open now, in use or idle.
    pub size: usize,
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
}

#[derive(Clone)]
pub(super) struct Pool {
    pool: managed::Pool<Connections>,
    gate: Arc<Gate>,
    min: usize,
    reach: ServerConnector,
    condemned: Arc<RetiredConnections>,
    metrics: Arc<DbMetrics>,
}

/// A connection in use until this is dropped.
pub(super) struct PooledConnection {
    // First, so that the connection is back before its permit is.
    object: managed::Object<Connections>,
    _pass: ConnectionPermit,
}

impl Deref for PooledConnection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.object
    }
}

impl Pool {
    /// A pool of connections to one server.
    pub(super) fn new(
        reach: ServerConnector,
        settings: &PostgresSettings,
        metrics: Arc<DbMetrics>,
    ) -> PortResult<Self> {
        if settings.pool_max == 0 || settings.pool_min > settings.pool_max {
            let message = format!("a pool cannot have {} to {} connections", settings.pool_min, settings.pool_max);
            return Err(PortError::rejected(POSTGRES, message));
        }
        let condemned = Arc::<RetiredConnections>::default();
        let connections =
            Connections { reach: reach.clone(), condemned: Arc::clone(&condemned), trial: Trial::default() };
        // [`ServerConnector`] bounds how long a connection may take to open.
        let pool = managed::Pool::builder(connections)
            .max_size(settings.pool_max)
            .wait_timeout(Some(settings.wait_timeout))
            .recycle_timeout(Some(settings.recycle_timeout))
            // The connection that came back last is used first, so that the surplus of a peak becomes idle and can be
            // closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| PortError::rejected(POSTGRES, error))?;
        Ok(Self {
            pool,
            gate: Arc::new(Gate::new(settings.pool_max, settings.max_waiting, settings.wait_timeout)),
            min: settings.pool_min,
            reach,
            condemned,
            metrics,
        })
    }

    pub(super) async fn get(&self, lane: PoolLane) -> PortResult<PooledConnection> {
        let began = Instant::now();
        let taken = match self.gate.pass(lane).await {
            // There are as many permits as connections, so the pool itself never waits.
            Ok(pass) => self.pool.get().await.map(|object| PooledConnection { object, _pass: pass }).map_err(|error| {
                self.metrics.connection_refused(lane.as_str(), "connect");
                from_pool(error)
            }),
            Err(why) => {
                self.metrics
                    .connection_refused(lane.as_str(), if why == GateRefusal::Away { "full" } else { "timeout" });
                Err(turned(why))
            }
        };
        self.metrics.connection_waited(lane.as_str(), began);
        taken
    }

    /// Cancels the running statement of a connection in the background and closes the connection, so that the next
    /// caller does not wait behind it. Its place in the pool stays taken until then, so that the server never sees more
    /// connections than the pool may have. Behind a pooler, the server's own time-out ends the statement, see
    /// [`super::session`].
    pub(super) fn abandon(&self, taken: PooledConnection) {
        let (connector, patience) = (self.reach.tls().connector(), self.reach.within());
        let cancels = !self.reach.is_pooled();
        self.reach.io().spawn(async move {
            let PooledConnection { object, _pass } = taken;
            let ended = async {
                if cancels {
                    object.cancel_token().cancel_query(connector).await?;
                }
                // A cancel request has no answer of its own: the end of the statement is the answer.
                object.check_connection().await
            };
            match timeout(patience, ended).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = error_text(&error),
                        "a statement that took too long ended with an error; its connection is closed"
                    );
                }
                Err(_) => tracing::warn!(
                    "a statement that took too long has not ended after the cancel request; its connection is closed"
                ),
            }
            // Not used again: a late cancel request would end another statement.
            drop(managed::Object::take(object));
        });
    }

    /// Closes a connection whose statement failed. Its place in the pool is free at once.
    pub(super) fn discard(taken: PooledConnection) {
        drop(managed::Object::take(taken.object));
    }

    /// Leaves the server of a connection: neither this connection nor any that was opened before now is used again.
    pub(super) fn leave(&self, taken: PooledConnection, why: &str) {
        if self.condemned.note(managed::Object::metrics(&taken.object).created) {
            tracing::warn!(
                why,
                "a PostgreSQL server is not usable any more: its connections are closed, and new ones are opened"
            );
        }
        Self::discard(taken);
        self.pool.retain(|_, usage| !self.condemned.holds(usage.created));
    }

    pub(super) fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus { size: status.size, idle: status.available, waiting: self.gate.waiting() }
    }

    pub(super) async fn keep_warm(&self) -> PortResult<()> {
        let before = self.status();
        let mut kept = before.size.saturating_sub(before.idle);
        self.pool.retain(|client, usage| {
            let keep = !client.is_closed() && (kept < self.min || usage.last_used() < SURPLUS_IDLE);
            kept += usize::from(keep);
            keep
        });
        let now = self.status();
        let missing = self.min.saturating_sub(now.size);
        // Waiting calls open connections themselves.
        if missing == 0 || now.waiting > 0 {
            return Ok(());
        }
        // The pool opens a connection only when none is idle, so the idle ones are held while the missing ones open.
        let held = join_all((0..now.idle + missing).map(|_| self.pool.get())).await;
        held.into_iter().collect::<Result<Vec<_>, _>>().map(drop).map_err(from_pool)
    }
}

/// Opens connections for the pool, and checks those that come back.
struct Connections {
    reach: ServerConnector,
    condemned: Arc<RetiredConnections>,
    trial: Trial<NoUsableServer>,
}

impl Manager for Connections {
    type Type = ClientWrapper;
    type Error = Arc<NoUsableServer>;

    async fn create(&self) -> Result<ClientWrapper, Self::Error> {
        // A large future that seldom runs: it must not be part of every call that takes a connection.
        Box::pin(self.trial.attempt(|| self.reach.open())).await
    }

    async fn recycle(&self, client: &mut ClientWrapper, metrics: &Metrics) -> RecycleResult<Self::Error> {
        // The driver knows without a round trip whether the connection is closed; a ping each time would double the
        // round trips.
        if client.is_closed() || self.condemned.holds(metrics.created) {
            return Err(RecycleError::message("it is closed, or its server is not usable any more"));
        }
        Ok(())
    }
}

/// The connections that must not be used again: all that were opened before a certain moment.
///
/// A server that shuts down or becomes a standby reports that on one connection. The other connections lead to it too.
/// Newer connections lead to the server that the name resolves to now, so a late report on an old connection does not
/// concern them.
#[derive(Debug, Default)]
struct RetiredConnections(Mutex<Option<Instant>>);

impl RetiredConnections {
    /// Notes a report on a connection that was opened at that time. Returns whether it is news.
    fn note(&self, opened: Instant) -> bool {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = until.is_none_or(|until| opened > until);
        if is_news {
            *until = Some(Instant::now());
        }
        is_news
    }

    fn holds(&self, opened: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| opened <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_connection_says_late_concerns_no_new_one() {
        let (condemned, start) = (RetiredConnections::default(), Instant::now());
        assert!(!condemned.holds(start));
        assert!(condemned.note(start), "the first that says it");
        assert!(!condemned.note(start), "another one to the same server");
        let opened = Instant::now() + Duration::from_secs(1);
        assert!(condemned.holds(start) && !condemned.holds(opened));
        assert!(condemned.note(opened), "the next server is left as well");
    }
}
