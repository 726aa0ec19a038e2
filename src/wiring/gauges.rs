//! Gauges of what adapters keep themselves: telemetry knows no adapter, so it is told how to read them.

use std::sync::Arc;

use crate::{
    adapters::{postgres::PostgresStore, redis::RedisLink},
    telemetry::{Metrics, metrics::PoolReading},
};

/// Exports the connections to PostgreSQL.
///
/// # Errors
/// When pools are exported already.
pub fn observe_pools(metrics: &Metrics, store: PostgresStore) -> Result<(), prometheus::Error> {
    metrics.observe_pools(move || {
        [("primary", store.pool_status()), ("replicas", store.replica_pool_status())]
            .map(|(server, status)| PoolReading {
                server,
                open: status.size,
                idle: status.idle,
                waiting: status.waiting,
            })
            .into()
    })
}

/// Exports the state of the servers of a Redis link.
pub fn observe_redis(metrics: &Metrics, link: RedisLink) {
    let redis = Arc::clone(&metrics.redis);
    metrics.before_scrape(move || {
        let status = link.status();
        redis.set_nodes(status.nodes, status.open);
    });
}
