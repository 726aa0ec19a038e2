//! The state of the usage spool, read once at each scrape.

use penstock_actors::{node::Node, ports::SpoolStatus};
use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};

use super::readings::{desc, family, metric};

/// A number of the spool, and how to read it.
struct SpoolMetric {
    name: &'static str,
    kind: MetricType,
    help: &'static str,
    read: fn(&SpoolStatus) -> u64,
}

const fn counter(name: &'static str, help: &'static str, read: fn(&SpoolStatus) -> u64) -> SpoolMetric {
    SpoolMetric { name, kind: MetricType::COUNTER, help, read }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&SpoolStatus) -> u64) -> SpoolMetric {
    SpoolMetric { name, kind: MetricType::GAUGE, help, read }
}

const FAMILIES: [SpoolMetric; 8] = [
    gauge(
        "penstock_usage_spool_full",
        "1 while the usage spool has no room, so that new streams are refused.",
        |spool| u64::from(spool.is_full),
    ),
    gauge("penstock_usage_spool_bytes", "Disk space of the usage spool.", |spool| spool.bytes),
    gauge("penstock_usage_spool_segments", "Files of the usage spool.", |spool| spool.segments),
    gauge(
        "penstock_usage_spool_entries",
        "Streams that are noted in the usage spool and not in the ledger yet.",
        |spool| spool.entries,
    ),
    counter("penstock_usage_spool_notes_total", "Notes written to the usage spool.", |spool| spool.notes),
    counter(
        "penstock_usage_spool_write_failures_total",
        "Notes and files of the usage spool that could not be written or removed.",
        |spool| spool.write_failures,
    ),
    counter("penstock_usage_spool_sync_failures_total", "Syncs of the usage spool that failed.", |spool| {
        spool.sync_failures
    }),
    gauge(
        "penstock_usage_spool_recovered",
        "Streams that earlier processes had left in the usage spool when this one started.",
        |spool| spool.recovered,
    ),
];

const OLDEST: (&str, &str) = (
    "penstock_usage_spool_oldest_seconds",
    "Age of the oldest note among them; a stream that runs is noted again as it goes on.",
);

/// Reads the spool's state at each scrape.
pub(super) struct SpoolCollector {
    node: Node,
    descs: Vec<Desc>,
}

impl SpoolCollector {
    pub(super) fn new(node: Node) -> Result<Self, prometheus::Error> {
        let names = FAMILIES.iter().map(|family| (family.name, family.help)).chain([OLDEST]);
        Ok(Self { node, descs: names.map(|of| desc(of, &[])).collect::<Result<_, _>>()? })
    }
}

impl Collector for SpoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = self.node.spool();
        let one = |name, help, kind, value: u64| family(name, help, kind, vec![metric(kind, [], value as f64)]);
        let age = self.node.oldest_note().map(|oldest| self.node.now().duration_since(oldest).as_secs());
        let age = u64::try_from(age.unwrap_or_default()).unwrap_or_default();
        let read = FAMILIES.iter().map(|family| one(family.name, family.help, family.kind, (family.read)(&status)));
        read.chain([one(OLDEST.0, OLDEST.1, MetricType::GAUGE, age)]).collect()
    }
}
