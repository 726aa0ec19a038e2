//! The keeper of a lane: it connects, probes, and closes the breaker again. It works in the background, so that no
//! user's request is ever the probe. After a fault that may make users wait again, a server that answers is on trial
//! until the breaker's period is over. Meanwhile it already gets the updates that it missed, because other instances
//! may not have noticed the fault.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    breaker::OpenReason,
    context::LinkContext,
    lane::{Redirect, RedisLane},
    settings::RedisSettings,
};
use crate::config::RedisServers;

/// The first pause between two attempts to connect; it doubles up to the breaker's period.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Round trips that may be queued between the lane and the socket: one at a time, and a probe.
const BUFFERED: usize = 4;

/// A lane with its keeper task; the task ends when this is dropped.
pub(super) struct ManagedLane {
    pub(super) lane: Arc<RedisLane>,
    keeper: AbortHandle,
}

impl ManagedLane {
    /// A lane to a server that is not connected yet.
    pub(super) fn new(info: ConnectionInfo, context: &Arc<LinkContext>, others: Option<Weak<dyn Redirect>>) -> Self {
        let lane = Arc::new(RedisLane::new(info, Arc::clone(context), others));
        let keeper = context.io.spawn(keep(Arc::clone(&lane), Arc::clone(context)));
        Self { lane, keeper: keeper.abort_handle() }
    }
}

impl Drop for ManagedLane {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(lane: Arc<RedisLane>, context: Arc<LinkContext>) {
    let settings = &context.settings;
    let (mut connected_before, mut rested) = (false, Instant::now());
    loop {
        rested = rested.max(Instant::now() + lane.rest(settings.breaker_period));
        lane.try_out(connect(&lane, &context, connected_before).await);
        if Instant::now() < rested {
            context.came_up(connected_before);
            // Ends sooner when the server fails its trial.
            let _ = timeout_at(rested, watch(&lane, settings)).await;
        }
        let Some(was_open) = lane.close() else { continue };
        if connected_before {
            context.metrics.reconnected();
            tracing::info!(server = lane.address, after = ?was_open, "Redis serves again");
        } else {
            tracing::info!(server = lane.address, "connected to Redis");
        }
        context.came_up(std::mem::replace(&mut connected_before, true));
        watch(&lane, settings).await;
    }
}

/// Tries until a server answers a probe, with growing pauses. The failure is logged once, unless it was `logged` already.
async fn connect(lane: &RedisLane, context: &LinkContext, mut logged: bool) -> MultiplexedConnection {
    let settings = &context.settings;
    let pauses = ExponentialBuilder::default()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(settings.breaker_period)
        .with_jitter()
        .without_max_times();
    let mut pauses = pauses.build();
    loop {
        let error = match timeout(settings.connect_timeout, open(&lane.info, settings)).await {
            Ok(Ok(connection)) => return connection,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", settings.connect_timeout),
        };
        if !std::mem::replace(&mut logged, true) {
            tracing::warn!(
                server = lane.address,
                error,
                "Redis does not answer; this instance goes on with its own state"
            );
        }
        // On a cluster, another node may have taken its place.
        context.look.notify_one();
        sleep(pauses.next().unwrap_or(settings.breaker_period)).await;
    }
}

/// Opens a connection on which the server has answered a probe.
async fn open(info: &ConnectionInfo, settings: &RedisSettings) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        // The lane sets a time limit for its round trips itself.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(BUFFERED);
    let client = settings.client(info.clone())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    probe(&mut connection, settings).await?;
    Ok(connection)
}

/// A server that accepts writes answers this; one that is loading, read-only or full does not. On a cluster, the server
/// is asked for its view of the whole cluster instead, because not every key is in its slots.
async fn probe(connection: &mut MultiplexedConnection, settings: &RedisSettings) -> RedisResult<()> {
    redis::cmd("PING").exec_async(connection).await?;
    match settings.servers {
        RedisServers::Single(_) => {
            let key = format!("{}probe", settings.key_prefix);
            redis::cmd("SET").arg(key).arg("").arg("PX").arg(1000).exec_async(connection).await
        }
        RedisServers::Cluster(_) => {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(connection).await?;
            if info.contains("cluster_state:ok") {
                return Ok(());
            }
            Err(RedisError::from((redis::ErrorKind::Client, "this server reports that the cluster is down")))
        }
    }
}

/// Returns when the breaker has opened, or a trial has failed. A ping at an interval detects a dead connection, so that
/// no request has to wait for it.
async fn watch(lane: &RedisLane, settings: &RedisSettings) {
    loop {
        let opened = timeout(settings.breaker_period, lane.opened.notified()).await.is_ok();
        let Some((mut connection, generation)) = lane.connection() else { return };
        if opened {
            // A fault of an earlier connection.
            continue;
        }
        let ping = redis::cmd("PING");
        match timeout(settings.response_timeout, ping.exec_async(&mut connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => lane.fault(generation, OpenReason::Broken, &error.to_string()),
            Err(_) => lane.fault(generation, OpenReason::Timeout, "no answer to a ping"),
        }
    }
}
