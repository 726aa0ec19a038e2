//! The pool: connections that stay warm, and whose traffic does not depend on the thread that asked for them.

use std::{
    future::{Future, poll_fn},
    ops::Deref,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use futures_util::future::join_all;
use penstock_actors::ports::{PortError, PortResult};
use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Config, Error};

use super::{
    PostgresSettings,
    error::{POSTGRES, from_pool, told, turned},
    gate::{Gate, Lane, Pass, Turned},
    session::{is_own, is_pooler, marked},
    tls::Tls,
};
use crate::telemetry::DbMetrics;

/// A connection beyond the minimum is closed when nobody has used it for this long: longer than the lulls of a busy
/// node, short enough to leave the server's connections to others after a peak.
const SURPLUS_IDLE: Duration = Duration::from_secs(300);

/// Connections as gauges show them.
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
    pool: deadpool_postgres::Pool,
    gate: Arc<Gate>,
    min: usize,
    end_timeout: Duration,
    tls: Tls,
    io: Handle,
    /// Whether a pooler stands between us and the server.
    pooled: Arc<AtomicBool>,
    metrics: Arc<DbMetrics>,
}

/// A connection that is taken until it is dropped.
pub(super) struct Taken {
    // First, so that the connection is back before its permit is.
    object: Object,
    _pass: Pass,
}

impl Deref for Taken {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

impl Pool {
    /// Connections to the server of `config`.
    pub(super) fn new(
        config: &Config,
        tls: Tls,
        settings: &PostgresSettings,
        metrics: Arc<DbMetrics>,
        io: Handle,
    ) -> PortResult<Self> {
        if settings.pool_max == 0 || settings.pool_min > settings.pool_max {
            let message = format!("a pool of {} to {} connections is none", settings.pool_min, settings.pool_max);
            return Err(PortError::rejected(POSTGRES, message));
        }
        let mut config = config.clone();
        tls.apply(&mut config);
        if config.get_application_name().is_none() {
            config.application_name("penstock");
        }
        // Whether a connection was closed is known without asking the server; a check of each would double the round
        // trips.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pooled = Arc::default();
        let connect = ConnectOn { io: io.clone(), tls: tls.clone(), pooled: Arc::clone(&pooled) };
        let pool = deadpool_postgres::Pool::builder(Manager::from_connect(config, connect, recycling))
            .max_size(settings.pool_max)
            .wait_timeout(Some(settings.wait_timeout))
            .create_timeout(Some(settings.create_timeout))
            .recycle_timeout(Some(settings.recycle_timeout))
            // The last one back is the first one out, so that what a peak left over goes idle and can be closed.
            .queue_mode(deadpool_postgres::QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| PortError::rejected(POSTGRES, error))?;
        Ok(Self {
            pool,
            gate: Arc::new(Gate::new(settings.pool_max, settings.max_waiting, settings.wait_timeout)),
            min: settings.pool_min,
            end_timeout: settings.create_timeout,
            tls,
            io,
            pooled,
            metrics,
        })
    }

    pub(super) async fn get(&self, lane: Lane) -> PortResult<Taken> {
        let began = Instant::now();
        let taken = match self.gate.pass(lane).await {
            // As many permits as connections: the pool itself makes nobody wait.
            Ok(pass) => self.pool.get().await.map(|object| Taken { object, _pass: pass }).map_err(|error| {
                self.metrics.connection_refused(lane.as_str(), "connect");
                from_pool(error)
            }),
            Err(why) => {
                self.metrics.connection_refused(lane.as_str(), if why == Turned::Away { "full" } else { "timeout" });
                Err(turned(why))
            }
        };
        self.metrics.connection_waited(lane.as_str(), began);
        taken
    }

    /// Ends what a connection does where it is done, and closes it: the next caller must not wait behind it. Its place in
    /// the pool is taken until then, so that the server never sees more connections than the pool may have. Behind a pooler
    /// the server's own time-out ends it, see [`super::session`].
    pub(super) fn abandon(&self, taken: Taken) {
        let (connector, patience) = (self.tls.connector(), self.end_timeout);
        let cancels = !self.pooled.load(Relaxed);
        self.io.spawn(async move {
            let Taken { object, _pass } = taken;
            let ended = async {
                if cancels {
                    object.cancel_token().cancel_query(connector).await?;
                }
                // The request to cancel is not answered: the statement's end is.
                object.check_connection().await
            };
            match timeout(patience, ended).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = told(&error), "a statement that took too long did not end well");
                }
                Err(_) => tracing::warn!("a statement that took too long has not ended in time"),
            }
            // Not used again: a request to cancel that is late would end another statement.
            drop(Object::take(object));
        });
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
        // Those who wait open connections themselves.
        if missing == 0 || now.waiting > 0 {
            return Ok(());
        }
        // The pool opens a connection only when none is idle, so the idle ones are held while the missing ones open.
        let held = join_all((0..now.idle + missing).map(|_| self.pool.get())).await;
        held.into_iter().collect::<Result<Vec<_>, _>>().map(drop).map_err(from_pool)
    }
}

/// Opens connections on the I/O runtime.
///
/// A socket belongs to the runtime that opened it. Opened by whoever happens to call, it would be served by, and die
/// with, that web worker or arbiter.
struct ConnectOn {
    io: Handle,
    tls: Tls,
    /// Once a pooler was met, connections go without the mark that it cannot keep.
    pooled: Arc<AtomicBool>,
}

type Connected = (Client, JoinHandle<()>);

impl ConnectOn {
    async fn open(&self, config: &Config) -> Result<Connected, Error> {
        let mut opening = pin!(config.connect(self.tls.connector()));
        let (client, connection) = poll_fn(|context| {
            let _inside = self.io.enter();
            opening.as_mut().poll(context)
        })
        .await?;
        let driver = self.io.spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "a connection to PostgreSQL broke");
            }
        });
        Ok((client, driver))
    }

    /// Opens a connection to what may be a pooler, and finds out; `None` when it is one that refuses to be asked.
    async fn open_and_ask(&self, config: &Config) -> Result<Option<Connected>, Error> {
        match self.open(&marked(config)).await {
            Ok(connected) if is_own(&connected.0).await? => Ok(Some(connected)),
            Ok(connected) => {
                self.met_a_pooler();
                Ok(Some(connected))
            }
            Err(error) if is_pooler(&error) => {
                self.met_a_pooler();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn met_a_pooler(&self) {
        if !self.pooled.swap(true, Relaxed) {
            tracing::info!("a pooler stands before PostgreSQL: statements that take too long are the server's to end");
        }
    }
}

impl Connect for ConnectOn {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Result<Connected, Error>> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            if !self.pooled.load(Relaxed)
                && let Some(connected) = self.open_and_ask(&config).await?
            {
                return Ok(connected);
            }
            self.open(&config).await
        })
    }
}
