//! Limits on the rate of requests.

use std::sync::Arc;

use penstock_actors::{
    node::Node,
    rate_limit::{RateLimiter, Sharing},
};
use tokio::runtime::Handle;

use super::Backends;
use crate::{
    adapters::redis::RedisRateLimits,
    config::{Config, RateLimitBackend},
    http::{Proxies, RATE_WINDOW, RateGate, RateGateParts},
    keys::KeyRing,
    telemetry::{Metrics, metrics::RateMetrics},
};

/// The rate limiter for requests, with its gauge.
///
/// # Errors
/// When the metrics of rates are registered already.
pub(super) fn rate_gate(
    config: &Config,
    limiter: RateLimiter,
    keys: Arc<KeyRing>,
    metrics: &Metrics,
) -> Result<Arc<RateGate>, prometheus::Error> {
    let rates = RateMetrics::new(metrics.registry())?;
    let subjects = rates.subjects.clone();
    let proxies = Proxies::new(config.server.trusted_proxies.clone());
    let parts = RateGateParts { limiter, proxies, keys, metrics: rates };
    let gate = Arc::new(RateGate::new(parts, |class| config.rate_limits.per_minute(class)));
    metrics.before_scrape({
        let gate = Arc::clone(&gate);
        move || subjects.set(i64::try_from(gate.subjects()).unwrap_or(i64::MAX))
    });
    Ok(gate)
}

/// The limiter, which counts where the configuration says.
pub(super) fn rate_limiter(config: &Config, backends: &Backends, node: &Node, io: &Handle) -> RateLimiter {
    let limits = &config.rate_limits;
    let link = backends.redis.clone().filter(|_| limits.backend == RateLimitBackend::Redis);
    let sharing = link.map(|link| {
        let prefix = match limits.key_prefix.as_str() {
            "" => format!("{}rate:", link.prefix()),
            prefix => prefix.to_owned(),
        };
        let node = node.clone();
        Sharing {
            limits: Arc::new(RedisRateLimits::new(link, prefix, RATE_WINDOW)),
            instances: Arc::new(move || node.instances()),
            io: io.clone(),
        }
    });
    RateLimiter::new(&backends.ports.clock, RATE_WINDOW, limits.subjects, sharing)
}
