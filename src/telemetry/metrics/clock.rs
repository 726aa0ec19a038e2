//! The state of the clocks.

use std::sync::Arc;

use penstock_actors::clock::watch::ClockWatch;
use prometheus::{Gauge, IntGauge, Registry};

use super::Metrics;

/// Gauges of the clocks.
struct ClockGauges {
    skew: Gauge,
    storage_skew: Gauge,
    in_doubt: IntGauge,
}

impl ClockGauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let skew = Gauge::new(
            "penstock_clock_skew_seconds",
            "By how much this machine's clock is ahead of the database's; negative when it is behind.",
        )?;
        let in_doubt = IntGauge::new(
            "penstock_clock_in_doubt",
            "1 while the time cannot be relied on, so that nothing is removed or expired; must be 0.",
        )?;
        let storage_skew = Gauge::new(
            "penstock_clock_storage_skew_seconds",
            "By how much the clock of S3 is ahead of the database's, in the tier where it differs most; negative when it is behind.",
        )?;
        registry.register(Box::new(storage_skew.clone()))?;
        registry.register(Box::new(skew.clone()))?;
        registry.register(Box::new(in_doubt.clone()))?;
        Ok(Self { skew, storage_skew, in_doubt })
    }
}

impl Metrics {
    /// Exports the state of the clocks.
    ///
    /// # Errors
    /// When clocks are exported already.
    pub fn observe_clock(&self, watch: Arc<ClockWatch>) -> Result<(), prometheus::Error> {
        let gauges = ClockGauges::new(self.registry())?;
        self.before_scrape(move || {
            gauges.skew.set(watch.skew().as_secs_f64());
            gauges.storage_skew.set(watch.storage_skew().as_secs_f64());
            gauges.in_doubt.set(i64::from(watch.is_in_doubt()));
        });
        Ok(())
    }
}
