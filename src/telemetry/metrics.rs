//! Every metric of the node, declared once, in a registry of its own: no globals, so that two servers fit in one process.

use std::{sync::Arc, time::Instant};

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    pub db: Arc<DbMetrics>,
}

impl Metrics {
    /// # Errors
    /// When two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let db = Arc::new(DbMetrics::new(&registry)?);
        Ok(Self { registry, db })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// What the database adapters measure: one count per statement is one round trip.
pub struct DbMetrics {
    queries: IntCounterVec,
    seconds: HistogramVec,
}

impl DbMetrics {
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let queries = IntCounterVec::new(
            Opts::new("penstock_db_queries_total", "Round trips to the database, by statement and outcome."),
            &["statement", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("penstock_db_query_seconds", "Time of a round trip to the database, by statement.")
                // The promise is p95 under 50 ms; the ends tell a cache hit from a lock wait.
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            &["statement"],
        )?;
        registry.register(Box::new(queries.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { queries, seconds })
    }

    /// Counts a statement that began at `began`.
    pub fn query_finished(&self, statement: &'static str, began: Instant, ok: bool) {
        self.queries.with_label_values(&[statement, if ok { "ok" } else { "error" }]).inc();
        self.seconds.with_label_values(&[statement]).observe(began.elapsed().as_secs_f64());
    }
}
