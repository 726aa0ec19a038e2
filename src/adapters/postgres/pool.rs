//! The pool: connections that stay warm, and whose traffic does not depend on the thread that asked for them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    time::Duration,
};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use futures_util::future::join_all;
use penstock_actors::ports::{PortError, PortResult};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::{Client, Config, Error, NoTls};

use super::{
    PostgresSettings,
    error::{POSTGRES, from_pool},
};

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
    min: usize,
}

impl Pool {
    pub(super) fn new(settings: &PostgresSettings, io: Handle) -> PortResult<Self> {
        if settings.pool_max == 0 || settings.pool_min > settings.pool_max {
            let message = format!("a pool of {} to {} connections is none", settings.pool_min, settings.pool_max);
            return Err(PortError::rejected(POSTGRES, message));
        }
        let mut config = settings.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("penstock");
        }
        // Whether a connection was closed is known without asking the server; a check of each would double the round
        // trips.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = deadpool_postgres::Pool::builder(Manager::from_connect(config, ConnectOn { io }, recycling))
            .max_size(settings.pool_max)
            .wait_timeout(Some(settings.wait_timeout))
            .create_timeout(Some(settings.create_timeout))
            .recycle_timeout(Some(settings.recycle_timeout))
            // The last one back is the first one out, so that what a peak left over goes idle and can be closed.
            .queue_mode(deadpool_postgres::QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| PortError::rejected(POSTGRES, error))?;
        Ok(Self { pool, min: settings.pool_min })
    }

    pub(super) async fn get(&self) -> PortResult<Object> {
        self.pool.get().await.map_err(from_pool)
    }

    pub(super) fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus { size: status.size, idle: status.available, waiting: status.waiting }
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
        if missing == 0 {
            return Ok(());
        }
        // The pool opens a connection only when none is idle, so the idle ones are held while the missing ones open.
        let held = join_all((0..now.idle + missing).map(|_| self.get())).await;
        held.into_iter().collect::<PortResult<Vec<_>>>().map(drop)
    }
}

/// Opens connections on the I/O runtime.
///
/// A socket belongs to the runtime that opened it. Opened by whoever happens to call, it would be served by, and die
/// with, that web worker or arbiter.
struct ConnectOn {
    io: Handle,
}

impl Connect for ConnectOn {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let mut opening = Box::pin(config.connect(NoTls));
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
        })
    }
}
