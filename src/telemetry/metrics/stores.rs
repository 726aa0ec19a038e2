//! The blob stores: whether they belong to the installation, how long they take, and how often they fail.

use std::sync::Arc;

use penstock_actors::storage::{
    store_guard::{StandingKind, StoreGuard},
    store_timings::StoreOperation,
};
use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};

use super::{
    Metrics,
    readings::{desc, family, histogram, metric},
};

const TIMES: (&str, &str) = (
    "penstock_storage_operation_seconds",
    "Time of an operation on the store of a tier, with all retries; a read is of one leaf at most.",
);
const FAILURES: (&str, &str) = (
    "penstock_storage_operation_failures_total",
    "Operations on the store of a tier that failed. Content that was not found is no failure.",
);

impl Metrics {
    /// Exports the relation of each tier's store to the installation, and the times and failures of the stores.
    ///
    /// # Errors
    /// When stores are exported already.
    pub fn observe_stores(&self, store: Arc<StoreGuard>) -> Result<(), prometheus::Error> {
        self.registry().register(Box::new(StoreCollector::new(Arc::clone(&store))?))?;
        let help = "1 for the standing of a tier's store at the last check, 0 for the others; must be own.";
        let gauges = IntGaugeVec::new(Opts::new("penstock_store_standing", help), &["tier", "standing"])?;
        self.registry().register(Box::new(gauges.clone()))?;
        self.before_scrape(move || {
            for (tier, standing) in store.standings() {
                for kind in StandingKind::ALL {
                    gauges.with_label_values(&[tier.as_str(), kind.as_str()]).set(i64::from(*kind == standing));
                }
            }
        });
        Ok(())
    }
}

/// Reads the timings of the stores at each scrape.
struct StoreCollector {
    store: Arc<StoreGuard>,
    descs: Vec<Desc>,
}

impl StoreCollector {
    fn new(store: Arc<StoreGuard>) -> Result<Self, prometheus::Error> {
        let labels = ["tier", "operation"];
        Ok(Self { store, descs: vec![desc(TIMES, &labels)?, desc(FAILURES, &labels)?] })
    }
}

impl Collector for StoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut times, mut failures) = (Vec::new(), Vec::new());
        for tier in self.store.tiers() {
            for operation in StoreOperation::ALL {
                let labels = [("tier", tier.as_str()), ("operation", operation.as_str())];
                let (timings, failed) = self.store.timings().snapshot(tier, operation);
                times.push(histogram(labels, &timings));
                failures.push(metric(MetricType::COUNTER, labels, failed as f64));
            }
        }
        vec![
            family(TIMES.0, TIMES.1, MetricType::HISTOGRAM, times),
            family(FAILURES.0, FAILURES.1, MetricType::COUNTER, failures),
        ]
    }
}
