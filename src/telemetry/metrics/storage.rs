//! The state of stored copies as metrics. The actors keep plain counters; they are read at each scrape.

use std::sync::atomic::Ordering::Relaxed;

use penstock_actors::{
    model::{Finding, StorageTier},
    node::Node,
};
use prometheus::{
    core::{Collector, Desc},
    proto::{Metric, MetricFamily, MetricType},
};

use super::readings::{desc, family, metric};

const VERIFIED_BYTES: (&str, &str) =
    ("penstock_storage_verified_bytes_total", "Bytes of stored copies that were read and hashed.");
const VERIFICATIONS: (&str, &str) = ("penstock_storage_verifications_total", "Copies that were verified, by result.");
const REPAIRED: (&str, &str) = ("penstock_storage_repaired_total", "Damaged copies that were repaired.");
const FAILED: (&str, &str) =
    ("penstock_storage_verification_failures_total", "Contents that the scan skipped because they could not be read.");
const QUARANTINED: (&str, &str) =
    ("penstock_storage_quarantined", "Contents that are withheld from readers because they are damaged.");
const LAG: (&str, &str) = (
    "penstock_storage_verification_lag_seconds",
    "Time since the start of the last complete scan: all content stored before it has been verified since. Absent before the first one.",
);
const HELD_BACK: (&str, &str) = (
    "penstock_storage_missing_held_back_total",
    "Times that this instance did not report a content as missing, because too much other content seemed missing too.",
);
const MOVES: (&str, &str) = ("penstock_storage_moves_total", "Contents that were moved to another tier, by tier.");
const MOVED_BYTES: (&str, &str) = ("penstock_storage_moved_bytes_total", "Bytes that were moved to another tier.");
const MOVES_FAILED: (&str, &str) = ("penstock_storage_move_failures_total", "Moves that were aborted.");

/// Reads the node's own counters at each scrape.
pub(super) struct StorageCollector {
    node: Node,
    descs: Vec<Desc>,
}

impl StorageCollector {
    pub(super) fn new(node: Node) -> Result<Self, prometheus::Error> {
        let descs = vec![
            desc(VERIFIED_BYTES, &[])?,
            desc(VERIFICATIONS, &["finding"])?,
            desc(REPAIRED, &[])?,
            desc(FAILED, &[])?,
            desc(QUARANTINED, &[])?,
            desc(HELD_BACK, &[])?,
            desc(LAG, &[])?,
            desc(MOVES, &["tier"])?,
            desc(MOVED_BYTES, &[])?,
            desc(MOVES_FAILED, &[])?,
        ];
        Ok(Self { node, descs })
    }
}

impl Collector for StorageCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counters = self.node.verifier.counters();
        let one = |(name, help): (&str, &str), kind, value: u64| {
            family(name, help, kind, vec![metric(kind, [], value as f64)])
        };
        let counter = |of, value: &std::sync::atomic::AtomicU64| one(of, MetricType::COUNTER, value.load(Relaxed));
        let labelled =
            |(name, help): (&str, &str), metrics: Vec<Metric>| family(name, help, MetricType::COUNTER, metrics);
        let findings = Finding::ALL.iter().map(|finding| {
            let value = counters.findings[*finding as usize].load(Relaxed);
            metric(MetricType::COUNTER, [("finding", finding.as_str())], value as f64)
        });
        let moves = StorageTier::ALL.iter().map(|tier| {
            let value = counters.moved[*tier as usize].load(Relaxed);
            metric(MetricType::COUNTER, [("tier", tier.as_str())], value as f64)
        });
        let mut families = vec![
            counter(VERIFIED_BYTES, &counters.verified_bytes),
            labelled(VERIFICATIONS, findings.collect()),
            counter(REPAIRED, &counters.repaired),
            counter(FAILED, &counters.failed),
            one(QUARANTINED, MetricType::GAUGE, self.node.content.quarantine().len() as u64),
            one(HELD_BACK, MetricType::COUNTER, self.node.verifier.doubt().held_back()),
            labelled(MOVES, moves.collect()),
            counter(MOVED_BYTES, &counters.moved_bytes),
            counter(MOVES_FAILED, &counters.moves_failed),
        ];
        let began = counters.whole_lap_began_at.load(Relaxed);
        if began > 0 {
            // Written by the clock that it is compared with.
            let now = u64::try_from(self.node.now().as_second()).unwrap_or(0);
            families.push(one(LAG, MetricType::GAUGE, now.saturating_sub(began)));
        }
        families
    }
}
