//! The counters of the caches as metrics, read at each scrape.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use penstock_actors::{
    cache::{CacheCounters, TieredCache},
    ports::CacheName,
};
use prometheus::{
    IntCounterVec, Opts, Registry,
    core::{Collector, Desc},
    proto::{self, MetricType},
};

use super::readings;

/// A number of each cache, with these labels beside the cache's name.
type CacheReading = (&'static [(&'static str, &'static str)], fn(&CacheCounters) -> &AtomicU64);

/// A metric of the caches.
struct CacheMetric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    readings: &'static [CacheReading],
}

const FAMILIES: [CacheMetric; 8] = [
    CacheMetric {
        name: "penstock_cache_hits_total",
        help: "Values found, by cache and tier.",
        kind: MetricType::COUNTER,
        readings: &[(&[("tier", "memory")], |c| &c.memory.hits), (&[("tier", "shared")], |c| &c.shared.hits)],
    },
    CacheMetric {
        name: "penstock_cache_misses_total",
        help: "Values not found, by cache and tier. A read that joins a running load counts as a miss in memory.",
        kind: MetricType::COUNTER,
        readings: &[(&[("tier", "memory")], |c| &c.memory.misses), (&[("tier", "shared")], |c| &c.shared.misses)],
    },
    CacheMetric {
        name: "penstock_cache_loads_total",
        help: "Values loaded from the database, by cache and outcome.",
        kind: MetricType::COUNTER,
        readings: &[(&[("outcome", "begun")], |c| &c.loads), (&[("outcome", "failed")], |c| &c.load_errors)],
    },
    CacheMetric {
        name: "penstock_cache_stale_total",
        help: "Values served past their time to live while a refresh ran, by cache.",
        kind: MetricType::COUNTER,
        readings: &[(&[], |c| &c.stale)],
    },
    CacheMetric {
        name: "penstock_cache_evictions_total",
        help: "Entries in memory that were evicted for lack of space, by cache.",
        kind: MetricType::COUNTER,
        readings: &[(&[], |c| &c.evictions)],
    },
    CacheMetric {
        name: "penstock_cache_outdated_total",
        help: "Entries in memory found outdated by an invalidation, by cache.",
        kind: MetricType::COUNTER,
        readings: &[(&[], |c| &c.outdated)],
    },
    CacheMetric {
        name: "penstock_cache_entries",
        help: "Entries in memory, by cache.",
        kind: MetricType::GAUGE,
        readings: &[(&[], |c| &c.entries)],
    },
    CacheMetric {
        name: "penstock_cache_bytes",
        help: "Estimated bytes of the entries in memory, by cache.",
        kind: MetricType::GAUGE,
        readings: &[(&[], |c| &c.bytes)],
    },
];

/// A number for all caches together.
type Total = (&'static str, &'static str, MetricType, fn(&TieredCache) -> u64);

const TOTALS: [Total; 4] = [
    (
        "penstock_cache_invalidations_total",
        "Tags invalidated, by this instance or by a message from another one.",
        MetricType::COUNTER,
        |c| c.counters().invalidations.load(Relaxed),
    ),
    ("penstock_cache_shared_errors_total", "Calls of the shared cache that failed.", MetricType::COUNTER, |c| {
        c.counters().shared_errors.load(Relaxed)
    }),
    (
        "penstock_cache_shared_away",
        "1 while this instance does not use the shared cache, because a call failed.",
        MetricType::GAUGE,
        |c| c.counters().shared_away.load(Relaxed),
    ),
    ("penstock_cache_loads_in_flight", "Loads under way.", MetricType::GAUGE, |c| c.queue().in_use),
];

/// Counts of warmed things.
pub struct WarmMetrics {
    warmed: IntCounterVec,
}

impl WarmMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Often used things that were loaded before a request for them, by kind.";
        let warmed = IntCounterVec::new(Opts::new("penstock_cache_warmed_total", help), &["kind"])?;
        registry.register(Box::new(warmed.clone()))?;
        Ok(Self { warmed })
    }

    pub fn warmed(&self, kind: &'static str) {
        self.warmed.with_label_values(&[kind]).inc();
    }
}

/// Reads the caches' own counters at each scrape.
pub(super) struct CacheCollector {
    cache: TieredCache,
    descs: Vec<Desc>,
}

impl CacheCollector {
    pub(super) fn new(cache: TieredCache) -> Result<Self, prometheus::Error> {
        let mut descs = Vec::new();
        for CacheMetric { name, help, readings, .. } in &FAMILIES {
            let own = readings[0].0.iter().map(|(label, _)| *label);
            descs.push(readings::desc((name, help), &std::iter::once("cache").chain(own).collect::<Vec<_>>())?);
        }
        for (name, help, ..) in &TOTALS {
            descs.push(readings::desc((name, help), &[])?);
        }
        Ok(Self { cache, descs })
    }
}

impl Collector for CacheCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.cache.settle();
        let of_caches = FAMILIES.iter().map(|family| {
            let metrics = CacheName::ALL.into_iter().flat_map(|cache| {
                let counters = self.cache.counters().of(cache);
                family.readings.iter().map(move |(labels, read)| {
                    let labels = std::iter::once(("cache", cache.as_str())).chain(labels.iter().copied());
                    readings::metric(family.kind, labels, read(counters).load(Relaxed) as f64)
                })
            });
            readings::family(family.name, family.help, family.kind, metrics.collect())
        });
        let totals = TOTALS.iter().map(|(name, help, kind, read)| {
            readings::family(name, help, *kind, vec![readings::metric(*kind, [], read(&self.cache) as f64)])
        });
        of_caches.chain(totals).collect()
    }
}
