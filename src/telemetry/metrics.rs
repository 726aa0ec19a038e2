//! Every metric of the node, declared once, in a registry of its own: no globals, so that two servers fit in one process.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

mod cache;
mod clock;
mod delivery;
mod governance;
mod http;
mod lineage;
mod node;
mod process;
mod rates;
mod redis;
mod s3;
mod signatures;
mod storage;

pub use self::redis::{RedisMetrics, RedisOutcome};
pub use cache::WarmMetrics;
pub use delivery::{DeliveryMetrics, Given, Mode};
pub use governance::GovernanceMetrics;
pub use http::{EndedRequest, HttpMetrics};
pub use node::JanitorMetrics;
use penstock_actors::{lineage::Lineage, system::Node, tiered_cache::TieredCache};
pub use rates::RateMetrics;
pub use s3::S3Metrics;
pub use signatures::{SignatureMetrics, Signed};

use self::{
    cache::CacheCollector,
    lineage::LineageCollector,
    node::{NodeCollector, QueueGauges},
    process::Process,
    storage::StorageCollector,
};
use crate::adapters::{postgres::PostgresStore, redis::RedisLink};

/// Sets gauges to what they are now.
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
    /// When two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(Process::this()))?;
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

    /// Has `refresh` called before each scrape, to set gauges of things that keep their own count. It must not block.
    pub fn before_scrape(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(refresh));
    }

    /// Shows what a node counts, and its pool of connections where it has one.
    ///
    /// # Errors
    /// When a node is shown already.
    pub fn observe_node(&self, node: Node, pool: Option<PostgresStore>) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(NodeCollector::new(node.clone())?))?;
        self.registry.register(Box::new(StorageCollector::new(node.clone())?))?;
        let queues = QueueGauges::new(&self.registry)?;
        self.before_scrape(move || queues.set(&node, pool.as_ref()));
        Ok(())
    }

    /// Shows what lineage counts.
    ///
    /// # Errors
    /// When lineage is shown already.
    pub fn observe_lineage(&self, lineage: Lineage) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(LineageCollector::new(lineage)?))
    }

    /// Shows the servers of a link to Redis.
    pub fn observe_redis(&self, link: RedisLink) {
        let redis = Arc::clone(&self.redis);
        self.before_scrape(move || {
            let status = link.status();
            redis.set_nodes(status.nodes, status.open);
        });
    }

    /// Shows what the caches count.
    ///
    /// # Errors
    /// When caches are shown already.
    pub fn observe_cache(&self, cache: TieredCache) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(CacheCollector::new(cache)?))
    }

    /// All metrics as they are now, in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        // A refresh that panicked leaves the list as it was.
        for refresh in self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            refresh();
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What the database adapters measure: one count per statement is one round trip.
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
        let waits = HistogramVec::new(
            HistogramOpts::new(
                "penstock_db_pool_wait_seconds",
                "Time until a call had a connection or was refused one, by what the call was for.",
            )
            // The first is a free connection; what is above the wait's time-out opened one too.
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
                "Reads that may lag, by the server that answered, where there are replicas.",
            ),
            &["server"],
        )?;
        let replica_lag = GaugeVec::new(
            Opts::new(
                "penstock_db_replica_lag_seconds",
                "How far a replica is behind, or that at least when it is far; absent while it does not answer.",
            ),
            &["replica"],
        )?;
        let replica_serves = IntGaugeVec::new(
            Opts::new("penstock_db_replica_serves", "1 while a replica answers and is within the lag that is allowed."),
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
    /// A call had a connection, or was refused one, after it had asked at `began`.
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

    /// What a check found of a replica.
    pub fn replica_measured(&self, replica: &str, lag: Option<Duration>, serves: bool) {
        match lag {
            Some(lag) => self.replica_lag.with_label_values(&[replica]).set(lag.as_secs_f64()),
            // Fails only when it is absent already.
            None => drop(self.replica_lag.remove_label_values(&[replica])),
        }
        self.replica_serves.with_label_values(&[replica]).set(i64::from(serves));
    }
}
