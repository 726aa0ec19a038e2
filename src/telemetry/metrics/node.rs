//! The counters of the actors as metrics. The actors keep plain counters and know no exporter; the counters are read at
//! each scrape.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use penstock_actors::node::{Node, janitor::PassReport};
use prometheus::{
    IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto,
};

use super::readings;

/// A number that the node keeps, and how to read it.
struct NodeMetric {
    desc: Desc,
    name: &'static str,
    help: &'static str,
    kind: proto::MetricType,
    read: fn(&Node) -> u64,
}

/// Reads the node's own counters at each scrape.
pub(super) struct NodeCollector {
    node: Node,
    readings: Vec<NodeMetric>,
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

impl NodeCollector {
    pub(super) fn new(node: Node) -> Result<Self, prometheus::Error> {
        use proto::MetricType::{COUNTER, GAUGE};
        type Row = (&'static str, proto::MetricType, &'static str, fn(&Node) -> u64);
        let rows: [Row; 34] = [
            ("penstock_quota_hits_total", COUNTER, "Requests to the quota cache answered from memory.", |node| {
                load(&node.quota.counters().hits)
            }),
            (
                "penstock_quota_misses_total",
                COUNTER,
                "Requests to the quota cache that waited for the ledger.",
                |node| load(&node.quota.counters().misses),
            ),
            ("penstock_quota_refills_total", COUNTER, "Round trips to the ledger for receipts and leases.", |node| {
                load(&node.quota.counters().refills)
            }),
            ("penstock_quota_refill_errors_total", COUNTER, "Refills that the ledger did not answer.", |node| {
                load(&node.quota.counters().refill_errors)
            }),
            (
                "penstock_quota_refills_unanswered",
                GAUGE,
                "Receipts for which this instance does not know whether it was granted a lease; it asks again.",
                |node| load(&node.quota.counters().unanswered),
            ),
            (
                "penstock_quota_leases_unknown_bytes",
                GAUGE,
                "Bytes leased to this instance that were unknown to it at its last comparison with the ledger; must be 0.",
                |node| node.unknown_leases().bytes,
            ),
            (
                "penstock_quota_leases_uncharged_total",
                COUNTER,
                "Lost leases of this instance whose charge was taken back, since it lived on and did not send that part.",
                |node| node.uncharged_leases().0,
            ),
            ("penstock_quota_leases_uncharged_bytes_total", COUNTER, "Bytes of those charges.", |node| {
                node.uncharged_leases().1
            }),
            (
                "penstock_quota_recalls_total",
                COUNTER,
                "Times that other instances were asked for idle credit.",
                |node| load(&node.quota.counters().recalls),
            ),
            ("penstock_instances", GAUGE, "Instances that the ledger knows to be alive.", |node| {
                u64::from(node.instances())
            }),
            ("penstock_quota_entries", GAUGE, "Receipts in memory.", |node| load(&node.quota.counters().entries)),
            ("penstock_streams_granted_total", COUNTER, "Streams admitted.", |node| {
                load(&node.quota.counters().granted)
            }),
            ("penstock_streams_refused_total", COUNTER, "Streams refused, for any reason.", |node| {
                load(&node.quota.counters().refused)
            }),
            ("penstock_streams_revoked_total", COUNTER, "Streams cut off because their receipt was revoked.", |node| {
                load(&node.quota.counters().revoked)
            }),
            (
                "penstock_streams_replaced_total",
                COUNTER,
                "Streams cut off because a newer stream of the same session took their slot.",
                |node| load(&node.quota.counters().replaced),
            ),
            (
                "penstock_streams_cut_total",
                COUNTER,
                "Streams cut off because their lease was lost: the ledger fenced this instance, or may have granted it to others.",
                |node| load(&node.quota.counters().cut),
            ),
            ("penstock_streams_active", GAUGE, "Streams admitted and not settled yet.", |node| {
                load(&node.quota.counters().active_streams)
            }),
            ("penstock_usage_recorded_total", COUNTER, "Usage rows accepted by the batcher.", |node| {
                load(&node.usage.counters().recorded)
            }),
            ("penstock_usage_settled_total", COUNTER, "Usage rows durably in the ledger.", |node| {
                load(&node.usage.counters().settled)
            }),
            ("penstock_usage_settled_bytes_total", COUNTER, "Payload bytes of settled usage.", |node| {
                load(&node.usage.counters().bytes_settled)
            }),
            ("penstock_usage_batches_total", COUNTER, "Batches of usage settled.", |node| {
                load(&node.usage.counters().batches)
            }),
            ("penstock_usage_retries_total", COUNTER, "Batches tried again after the ledger did not answer.", |node| {
                load(&node.usage.counters().retries)
            }),
            (
                "penstock_usage_set_aside_total",
                COUNTER,
                "Usage rows that can never be settled, kept for a person to decide about.",
                |node| load(&node.usage.counters().set_aside),
            ),
            (
                "penstock_usage_dropped_total",
                COUNTER,
                "Usage rows that could not be stored anywhere; must be 0.",
                |node| load(&node.usage.counters().dropped),
            ),
            (
                "penstock_database_restores_total",
                COUNTER,
                "Times that the node found that the database had been restored while it ran.",
                Node::restores,
            ),
            ("penstock_content_cache_hits_total", COUNTER, "Leaves of content found in memory.", |node| {
                load(&node.content.counters().hits)
            }),
            ("penstock_content_cache_misses_total", COUNTER, "Leaves of content read from the blob store.", |node| {
                load(&node.content.counters().misses)
            }),
            ("penstock_content_cache_bytes", GAUGE, "Bytes of verified leaves in memory.", |node| {
                node.content.cached_bytes()
            }),
            ("penstock_content_read_bytes_total", COUNTER, "Bytes read from the blob store.", |node| {
                load(&node.content.counters().bytes_read)
            }),
            ("penstock_content_corrupt_total", COUNTER, "Reads whose bytes differed from what was stored.", |node| {
                load(&node.content.counters().corrupt)
            }),
            ("penstock_content_open", GAUGE, "Blobs held open.", |node| node.content.open_blobs()),
            ("penstock_actors_alive", GAUGE, "1 while every actor is alive.", |node| u64::from(node.is_alive())),
            (
                "penstock_actor_restarts_total",
                COUNTER,
                "Actors that died of a panic and were built again.",
                Node::actor_restarts,
            ),
            ("penstock_uploads_active", GAUGE, "Uploads under way.", |node| node.ingest.queue().in_use),
        ];
        let readings = rows
            .into_iter()
            .map(|(name, kind, help, read)| {
                let desc = readings::desc((name, help), &[])?;
                Ok(NodeMetric { desc, name, help, kind, read })
            })
            .collect::<Result<_, prometheus::Error>>()?;
        Ok(Self { node, readings })
    }
}

impl Collector for NodeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.readings.iter().map(|reading| &reading.desc).collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let families = self.readings.iter().map(|reading| {
            let value = (reading.read)(&self.node) as f64;
            readings::family(reading.name, reading.help, reading.kind, vec![readings::metric(reading.kind, [], value)])
        });
        families.collect()
    }
}

/// The queues of the node: gauges that are set before each scrape.
pub(super) struct QueueGauges {
    in_use: IntGaugeVec,
    capacity: IntGaugeVec,
}

impl QueueGauges {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["queue"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        Ok(Self {
            in_use: vec("penstock_admission_in_use", "Permits in use, by queue (items or bytes).")?,
            capacity: vec("penstock_admission_capacity", "Permits of a queue.")?,
        })
    }

    pub(super) fn set(&self, node: &Node) {
        // Shards share a name, so they are summed.
        self.in_use.reset();
        self.capacity.reset();
        for queue in node.queues() {
            self.in_use.with_label_values(&[queue.name]).add(signed(queue.in_use));
            self.capacity.with_label_values(&[queue.name]).add(signed(queue.capacity));
        }
    }
}

/// The state of the connections to a server.
pub struct PoolReading {
    pub server: &'static str,
    pub open: usize,
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
}

/// Connection pools: gauges that are set before each scrape.
pub(super) struct PoolGauges(IntGaugeVec);

impl PoolGauges {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauges = IntGaugeVec::new(
            Opts::new(
                "penstock_db_pool_connections",
                "Connections to the database and calls that wait for one, by server and state.",
            ),
            &["server", "state"],
        )?;
        registry.register(Box::new(gauges.clone()))?;
        Ok(Self(gauges))
    }

    pub(super) fn set(&self, pool: &PoolReading) {
        for (state, count) in [("open", pool.open), ("idle", pool.idle), ("waiting", pool.waiting)] {
            self.0.with_label_values(&[pool.server, state]).set(signed(count as u64));
        }
    }
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The work of the Janitor.
pub struct JanitorMetrics {
    removed: IntCounterVec,
    removed_bytes: IntCounter,
    left_alone: IntGaugeVec,
}

impl JanitorMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let removed = IntCounterVec::new(
            Opts::new("penstock_janitor_items_total", "Items that the Janitor cleaned up, by kind."),
            &["kind"],
        )?;
        registry.register(Box::new(removed.clone()))?;
        let removed_bytes = IntCounter::new(
            "penstock_storage_trash_removed_bytes_total",
            "Bytes of blobs that were purged from the trash.",
        )?;
        registry.register(Box::new(removed_bytes.clone()))?;
        let left_alone = IntGaugeVec::new(
            Opts::new(
                "penstock_janitor_left_alone",
                "Items that the Janitor's last pass left for an operator to decide, by kind.",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(left_alone.clone()))?;
        Ok(Self { removed, removed_bytes, left_alone })
    }

    pub fn pass_ended(&self, report: &PassReport) {
        self.removed_bytes.inc_by(report.trash_removed_bytes);
        for (kind, count) in [("orphan", report.orphans_held), ("refused_upload", report.uploads_refused)] {
            self.left_alone.with_label_values(&[kind]).set(signed(count));
        }
        for (kind, count) in [
            ("lease_reclaimed", report.leases_reclaimed),
            ("lease_spared", report.leases_spared),
            ("receipt_expired", report.receipts_expired),
            ("receipt_restored", report.receipts_restored),
            ("window_pruned", report.windows_pruned),
            ("node_forgotten", report.nodes_forgotten),
            ("partition_made", report.partitions_made),
            ("partition_dropped", report.partitions_dropped),
            ("client_key_forgotten", report.client_keys_forgotten),
            ("price_forgotten", report.prices_forgotten),
            ("change_forgotten", report.changes_forgotten),
            ("policy_run_forgotten", report.policy_runs_forgotten),
            ("policy_version_forgotten", report.policy_versions_forgotten),
            ("announcement_withdrawn", report.announcements_withdrawn),
            ("upload_expired", report.uploads_expired),
            ("upload_part", report.upload_parts),
            ("temporary_file", report.temporary_files),
            ("orphan_trashed", report.orphans_trashed),
            ("trash_recovered", report.trash_recovered),
            ("trash_removed", report.trash_removed),
            ("failed_step", report.failures),
        ] {
            self.removed.with_label_values(&[kind]).inc_by(count);
        }
    }
}
