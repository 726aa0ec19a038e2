//! Lineage from the configuration.

use std::sync::Arc;

use penstock_actors::{
    cache::TieredCache,
    clock::{Clock, watch::ClockWatch},
    lineage::{
        LineagePorts, LineageSettings, ingest::LineageIngestSettings, outbox_relay::OutboxRelaySettings,
        pruner::PrunerSettings,
    },
    ports::{LineageGraphUpkeep, LineageOutbox, LineageStore, LineageUpkeep, TaskLeases},
};

use crate::{
    adapters::cached::{CachedLineage, CachedLineageGraphUpkeep},
    config::Config,
    http::LineageHttpSettings,
};

/// One store behind each of its lineage ports.
pub struct LineageFaces {
    store: Arc<dyn LineageStore>,
    outbox: Arc<dyn LineageOutbox>,
    upkeep: Arc<dyn LineageUpkeep>,
    graph: Arc<dyn LineageGraphUpkeep>,
    leases: Arc<dyn TaskLeases>,
}

impl LineageFaces {
    pub(super) fn of<S>(store: &Arc<S>) -> Self
    where
        S: LineageStore + LineageOutbox + LineageUpkeep + LineageGraphUpkeep + TaskLeases,
    {
        Self {
            store: Arc::<S>::clone(store),
            outbox: Arc::<S>::clone(store),
            upkeep: Arc::<S>::clone(store),
            graph: Arc::<S>::clone(store),
            leases: Arc::<S>::clone(store),
        }
    }

    /// The ports of lineage: walks come from the cache, and changes of the graph invalidate them.
    pub(super) fn ports(self, clock: Arc<dyn Clock>, watch: Arc<ClockWatch>, cache: TieredCache) -> LineagePorts {
        let Self { store, outbox, upkeep, graph, leases } = self;
        let graph = Arc::new(CachedLineageGraphUpkeep::new(graph, cache.clone()));
        let store = Arc::new(CachedLineage::new(store, cache));
        LineagePorts { store, outbox, upkeep, graph, leases, clock, watch }
    }
}

/// The limits and times of lineage's actors.
pub fn lineage_settings(config: &Config) -> LineageSettings {
    let lineage = &config.lineage;
    LineageSettings {
        ingest: LineageIngestSettings {
            batch_events: lineage.batch_events,
            queue: u32::try_from(lineage.queue).unwrap_or(u32::MAX),
        },
        pruner: PrunerSettings {
            interval: lineage.prune_interval,
            step: lineage.prune_step,
            pause: lineage.prune_pause,
            lease_ttl: lineage.prune_lease,
            window: lineage.window,
            window_events: lineage.window_events,
            graph: lineage.graph,
        },
        emitter: lineage.emit.then(|| OutboxRelaySettings {
            names: lineage.own_names(),
            bounds: lineage.bounds(),
            interval: lineage.emit_interval,
        }),
    }
}

/// Limits of events and walks.
pub(super) fn lineage_http_settings(config: &Config) -> LineageHttpSettings {
    let lineage = &config.lineage;
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    LineageHttpSettings {
        max_event: bytes(lineage.max_event),
        max_batch: bytes(lineage.max_batch),
        max_batch_events: lineage.max_batch_events,
        graph_nodes: lineage.graph_nodes,
        graph_time: lineage.graph_time,
    }
}
