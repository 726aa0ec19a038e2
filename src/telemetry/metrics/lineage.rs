//! The counters of lineage as metrics, read at each scrape.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use penstock_actors::lineage::Lineage;
use prometheus::{
    core::{Collector, Desc},
    proto::{self, MetricType},
};

use super::readings;

/// How to read a number.
type Read = fn(&Lineage) -> f64;

/// A metric with its series: the value of its label, and how to read it.
struct LineageMetric {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    kind: MetricType,
    series: &'static [(&'static str, Read)],
}

const FAMILIES: [LineageMetric; 10] = [
    LineageMetric {
        name: "penstock_lineage_events_total",
        help: "Lineage events received, by outcome.",
        label: Some("outcome"),
        kind: MetricType::COUNTER,
        series: &[
            ("new", |lineage| count(&lineage.ingest.counters().new)),
            ("known", |lineage| count(&lineage.ingest.counters().known)),
            ("left", |lineage| count(&lineage.ingest.counters().left)),
            ("failed", |lineage| count(&lineage.ingest.counters().failed)),
        ],
    },
    LineageMetric {
        name: "penstock_lineage_batches_total",
        help: "Batches of lineage events written.",
        label: None,
        kind: MetricType::COUNTER,
        series: &[("", |lineage| count(&lineage.ingest.counters().batches))],
    },
    LineageMetric {
        name: "penstock_lineage_queue_bytes",
        help: "Bytes of lineage events under way, and the limit on them.",
        label: Some("of"),
        kind: MetricType::GAUGE,
        series: &[
            ("in_use", |lineage| lineage.ingest.queue().in_use as f64),
            ("capacity", |lineage| lineage.ingest.queue().capacity as f64),
        ],
    },
    LineageMetric {
        name: "penstock_lineage_told_total",
        help: "The node's own lineage events, by outcome.",
        label: Some("outcome"),
        kind: MetricType::COUNTER,
        series: &[
            ("told", |lineage| lineage.emitter.as_ref().map_or(0.0, |emitter| count(&emitter.counters().emitted))),
            ("skipped", |lineage| lineage.emitter.as_ref().map_or(0.0, |emitter| count(&emitter.counters().skipped))),
            ("failed", |lineage| lineage.emitter.as_ref().map_or(0.0, |emitter| count(&emitter.counters().failures))),
        ],
    },
    LineageMetric {
        name: "penstock_lineage_pruned_total",
        help: "Rows that were removed from the window, by kind. Only the pruning instance counts.",
        label: Some("kind"),
        kind: MetricType::COUNTER,
        series: &[
            ("event", |lineage| count(&lineage.pruner.counters().events)),
            ("run", |lineage| count(&lineage.pruner.counters().runs)),
            ("edge", |lineage| count(&lineage.pruner.counters().edges)),
            ("node", |lineage| count(&lineage.pruner.counters().nodes)),
            ("namespace", |lineage| count(&lineage.pruner.counters().namespaces)),
            ("untold", |lineage| count(&lineage.pruner.counters().untold)),
        ],
    },
    LineageMetric {
        name: "penstock_lineage_prune_passes_total",
        help: "Pruning passes of this instance, and pruning steps that failed.",
        label: Some("outcome"),
        kind: MetricType::COUNTER,
        series: &[
            ("ended", |lineage| count(&lineage.pruner.counters().passes)),
            ("failed", |lineage| count(&lineage.pruner.counters().failures)),
        ],
    },
    LineageMetric {
        name: "penstock_lineage_kept_events",
        help: "Events in the window after the last pass of this instance.",
        label: None,
        kind: MetricType::GAUGE,
        series: &[("", |lineage| count(&lineage.pruner.counters().kept))],
    },
    LineageMetric {
        name: "penstock_lineage_excess_events",
        help: "Events above the limits of their namespaces after the last pass of this instance.",
        label: None,
        kind: MetricType::GAUGE,
        series: &[("", |lineage| count(&lineage.pruner.counters().excess))],
    },
    LineageMetric {
        name: "penstock_lineage_prune_lag_seconds",
        help: "By how much the oldest event exceeded the window after the last pass of this instance.",
        label: None,
        kind: MetricType::GAUGE,
        series: &[("", |lineage| count(&lineage.pruner.counters().lag_seconds))],
    },
    LineageMetric {
        name: "penstock_lineage_longest_step_seconds",
        help: "The longest pruning step since the start.",
        label: None,
        kind: MetricType::GAUGE,
        series: &[("", |lineage| count(&lineage.pruner.counters().longest_step) / 1e6)],
    },
];

/// Exact up to 2^53, like every number of the format.
fn count(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

/// Reads lineage's own counters at each scrape.
pub(super) struct LineageCollector {
    lineage: Lineage,
    descs: Vec<Desc>,
}

impl LineageCollector {
    pub(super) fn new(lineage: Lineage) -> Result<Self, prometheus::Error> {
        let desc = |family: &LineageMetric| readings::desc((family.name, family.help), family.label.as_slice());
        Ok(Self { lineage, descs: FAMILIES.iter().map(desc).collect::<Result<_, _>>()? })
    }
}

impl Collector for LineageCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let families = FAMILIES.iter().map(|family| {
            let metrics = family.series.iter().map(|(value, read)| {
                let label = family.label.map(|label| (label, *value));
                readings::metric(family.kind, label, read(&self.lineage))
            });
            readings::family(family.name, family.help, family.kind, metrics.collect())
        });
        families.collect()
    }
}
