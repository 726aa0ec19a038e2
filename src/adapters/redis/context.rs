//! What the lanes of one link share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::settings::RedisSettings;
use crate::telemetry::metrics::RedisMetrics;

/// Settings, metrics, and what a lane tells the link. It holds no lane, so lanes may hold it.
pub(super) struct LinkContext {
    pub(super) settings: RedisSettings,
    pub(super) metrics: Arc<RedisMetrics>,
    /// The runtime that drives the connections.
    pub(super) io: Handle,
    /// Counts how often a server has begun to serve, or its trial.
    pub(super) ups: watch::Sender<u64>,
    /// Notified when the map of a cluster may be wrong. A single server has no map.
    pub(super) look: Notify,
    /// When a server last came back after a fault.
    back_since: Mutex<Option<Instant>>,
}

impl LinkContext {
    pub(super) fn new(settings: RedisSettings, metrics: Arc<RedisMetrics>, io: Handle) -> Self {
        Self { settings, metrics, io, ups: watch::Sender::new(0), look: Notify::new(), back_since: Mutex::new(None) }
    }

    /// A server serves or is on trial, for the first time or after a fault.
    pub(super) fn came_up(&self, after_fault: bool) {
        if after_fault {
            *self.back_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.ups.send_modify(|ups| *ups += 1);
    }

    /// Whether a server came back so recently that other instances may not have noticed yet: they check again after one
    /// breaker period, and then need some time to send their updates.
    pub(super) fn is_just_back(&self) -> bool {
        let back_since = *self.back_since.lock().unwrap_or_else(PoisonError::into_inner);
        back_since.is_some_and(|since| since.elapsed() < 2 * self.settings.breaker_period)
    }
}
