//! Every metric of the node, declared once, in a registry of its own: no globals, so that two servers can run in one
//! process.
//!
//! Where a metric belongs depends on what counts:
//! - An actor keeps a plain counter and knows no exporter. `node`, `actors`, `spool`, `storage`, `stores`, `lineage` and `cache` read
//!   such counters at each scrape; those of uploads, streams and quotas are rows in `node`.
//! - A handler, middleware or an adapter calls a method of a struct that it is given: `http`, `delivery`, `rates`,
//!   `signatures`, `receipts`, `purchases`, `tls`, `governance`, `redis`, `s3`, and `DbMetrics`.
//! - A state is set before each scrape: `clock`, `connections`, `chain`, `folder`, the standing in `stores`, and what `src/wiring/gauges.rs`
//!   reads from adapters.
//!
//! `docs/extending.md` has the steps.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, proto::MetricFamily,
};

mod actors;
#[cfg(feature = "jemalloc")]
mod allocator;
mod build;
mod cache;
mod chain;
mod clock;
mod connections;
mod delivery;
mod folder;
mod governance;
mod http;
mod lineage;
mod node;
mod process;
mod purchases;
mod rates;
mod readings;
mod receipts;
mod redis;
mod s3;
mod signatures;
mod snapshot;
mod spool;
mod storage;
mod stores;
mod tls;

pub use self::redis::{RedisMetrics, RedisOutcome};
pub use cache::WarmMetrics;
pub use delivery::{AnswerOutcome, DeliveryMetrics, Mode};
pub use governance::GovernanceMetrics;
pub use http::{EndedRequest, HttpMetrics};
pub use node::{JanitorMetrics, PoolReading};
use penstock_actors::{cache::TieredCache, lineage::Lineage, node::Node};
pub use purchases::{PaymentMetrics, PurchaseOutcome};
pub use rates::RateMetrics;
pub use receipts::ReceiptMetrics;
pub use s3::S3Metrics;
pub use signatures::{SignatureMetrics, Signed};
pub use snapshot::Snapshot;
pub use tls::{Handshake, TlsMetrics};

use self::{
    actors::ActorCollector,
    cache::CacheCollector,
    lineage::LineageCollector,
    node::{NodeCollector, PoolGauges, QueueGauges},
    process::Process,
    spool::SpoolCollector,
    storage::StorageCollector,
};
use super::logs::dropped_lines;

/// Sets gauges to their present values.
type Refresh = Box<dyn Fn() + Send + Sync>;

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    pub db: Arc<DbMetrics>,
    pub http: Arc<HttpMetrics>,
    pub redis: Arc<RedisMetrics>,
    pub deliveries: DeliveryMetrics,
    pub s3: Arc<S3Metrics>,
    refreshes: Mutex<Vec<Refresh>>,
}

impl Metrics {
    /// # Errors
    /// When two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(Process::this()))?;
        build::register(&registry)?;
        #[cfg(feature = "jemalloc")]
        if let Some(allocator) = allocator::Allocator::of_this_process()? {
            registry.register(Box::new(allocator))?;
        }
        registry.register(Box::new(dropped_lines()))?;
        let db = Arc::new(DbMetrics::new(&registry)?);
        let http = Arc::new(HttpMetrics::new(&registry)?);
        let redis = Arc::new(RedisMetrics::new(&registry)?);
        let deliveries = DeliveryMetrics::new(&registry)?;
        let s3 = Arc::new(S3Metrics::new(&registry)?);
        Ok(Self { registry, db, http, redis, s3, deliveries, refreshes: Mutex::default() })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Calls `refresh` before each scrape, to set gauges of components that keep their own counts. It must not block.
    pub fn before_scrape(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(refresh));
    }

    /// Exports the counters of a node.
    ///
    /// # Errors
    /// When a node is exported already.
    pub fn observe_node(&self, node: Node) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(NodeCollector::new(node.clone())?))?;
        self.registry.register(Box::new(StorageCollector::new(node.clone())?))?;
        self.registry.register(Box::new(SpoolCollector::new(node.clone())?))?;
        let queues = QueueGauges::new(&self.registry)?;
        self.before_scrape(move || queues.set(&node));
        Ok(())
    }

    /// Exports how long messages wait for the actors, and how long usage is on its way to the ledger.
    ///
    /// # Errors
    /// When actors are exported already.
    pub fn observe_actors(&self, node: &Node, lineage: &Lineage) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(ActorCollector::new(node, lineage)?))
    }

    /// Exports connection pools, which `read` looks at before each scrape.
    ///
    /// # Errors
    /// When pools are exported already.
    pub fn observe_pools(
        &self,
        read: impl Fn() -> Vec<PoolReading> + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        let pools = PoolGauges::new(&self.registry)?;
        self.before_scrape(move || read().iter().for_each(|pool| pools.set(pool)));
        Ok(())
    }

    /// Exports the counters of lineage.
    ///
    /// # Errors
    /// When lineage is exported already.
    pub fn observe_lineage(&self, lineage: Lineage) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(LineageCollector::new(lineage)?))
    }

    /// Exports the counters of the caches.
    ///
    /// # Errors
    /// When caches are exported already.
    pub fn observe_cache(&self, cache: TieredCache) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(CacheCollector::new(cache)?))
    }

    /// All metrics in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.families())
    }

    fn families(&self) -> Vec<MetricFamily> {
        // After a panic in a refresh the list is unchanged.
        for refresh in self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            refresh();
        }
        self.registry.gather()
    }
}

/// Metrics of the database adapters: one count per statement is one round trip.
pub struct DbMetrics {
    queries: IntCounterVec,
    seconds: HistogramVec,
    waits: HistogramVec,
    refusals: IntCounterVec,
    reads: IntCounterVec,
    replica_lag: GaugeVec,
    replica_serves: IntGaugeVec,
}

impl DbMetrics {
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let queries = IntCounterVec::new(
            Opts::new("penstock_db_queries_total", "Round trips to the database, by statement and outcome."),
            &["statement", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("penstock_db_query_seconds", "Time of a round trip to the database, by statement.")
                // The target is p95 under 50 ms; the ends distinguish a cache hit from a lock wait.
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            &["statement"],
        )?;
        let waits = HistogramVec::new(
            HistogramOpts::new(
                "penstock_db_pool_wait_seconds",
                "Time until a call got a connection or was refused one, by the purpose of the call.",
            )
            // The first bucket is a free connection; above the time-out of the wait, the call also opened a connection.
            .buckets(vec![0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]),
            &["lane"],
        )?;
        let refusals = IntCounterVec::new(
            Opts::new(
                "penstock_db_pool_refusals_total",
                "Calls without a connection: the queue was full, the wait too long, or none could be opened.",
            ),
            &["lane", "reason"],
        )?;
        registry.register(Box::new(queries.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(waits.clone()))?;
        let reads = IntCounterVec::new(
            Opts::new(
                "penstock_db_reads_total",
                "Reads that may lag, by the server that answered, when there are replicas.",
            ),
            &["server"],
        )?;
        let replica_lag = GaugeVec::new(
            Opts::new(
                "penstock_db_replica_lag_seconds",
                "Lag of a replica, a lower bound when the lag is large; absent while the replica does not answer.",
            ),
            &["replica"],
        )?;
        let replica_serves = IntGaugeVec::new(
            Opts::new("penstock_db_replica_serves", "1 while a replica answers and its lag is within the allowed lag."),
            &["replica"],
        )?;
        registry.register(Box::new(refusals.clone()))?;
        registry.register(Box::new(reads.clone()))?;
        registry.register(Box::new(replica_lag.clone()))?;
        registry.register(Box::new(replica_serves.clone()))?;
        Ok(Self { queries, seconds, waits, refusals, reads, replica_lag, replica_serves })
    }

    /// Counts a statement that began at `began`.
    pub fn query_finished(&self, statement: &'static str, began: Instant, ok: bool) {
        self.queries.with_label_values(&[statement, if ok { "ok" } else { "error" }]).inc();
        self.seconds.with_label_values(&[statement]).observe(began.elapsed().as_secs_f64());
    }
    /// A call got a connection, or was refused one, that it had asked for at `began`.
    pub fn connection_waited(&self, lane: &'static str, began: Instant) {
        self.waits.with_label_values(&[lane]).observe(began.elapsed().as_secs_f64());
    }

    /// Counts a call that got no connection.
    pub fn connection_refused(&self, lane: &'static str, reason: &'static str) {
        self.refusals.with_label_values(&[lane, reason]).inc();
    }

    /// Counts a read that may lag, by the server that it goes to.
    pub fn read_served(&self, server: &'static str) {
        self.reads.with_label_values(&[server]).inc();
    }

    /// The result of a check of a replica.
    pub fn replica_measured(&self, replica: &str, lag: Option<Duration>, serves: bool) {
        match lag {
            Some(lag) => self.replica_lag.with_label_values(&[replica]).set(lag.as_secs_f64()),
            // Fails only if it is absent already.
            None => drop(self.replica_lag.remove_label_values(&[replica])),
        }
        self.replica_serves.with_label_values(&[replica]).set(i64::from(serves));
    }
}
