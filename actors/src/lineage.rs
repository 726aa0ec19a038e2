//! Lineage put together: the ingest, the pruner, and, where the node emits events of its own, the emitter.
//!
//! They share an arbiter of their own, so that a flood of events cannot keep usage from being settled or a lease from being
//! renewed.
//!
//! [`event`] reads and bounds an event. [`ingest`] batches events until they are durable. [`node_events`] says what the node tells of
//! itself, and [`outbox_relay`] takes it from the outbox to the ingest. [`pruner`] keeps the window. Handlers call the ingest and walk
//! the graph through the port. **Bound.** Each request holds a permit for its bytes until its batch is durable.

pub mod event;
pub mod ingest;
pub mod node_events;
pub mod outbox_relay;
pub mod pruner;

use std::{sync::Arc, time::Duration};

use actix::Arbiter;
use futures::future::join;
use tokio::time::timeout;
use uuid::Uuid;

use self::{
    ingest::{LineageHandle, LineageIngestDeps, LineageIngestSettings},
    outbox_relay::{OutboxRelayDeps, OutboxRelayHandle, OutboxRelaySettings},
    pruner::{PrunerDeps, PrunerHandle, PrunerSettings},
};
use crate::{
    clock::{Clock, watch::ClockWatch},
    ports::{LineageGraphUpkeep, LineageOutbox, LineageStore, LineageUpkeep, PortResult, TaskLeases},
};

/// Dependencies of lineage.
#[derive(Clone)]
pub struct LineagePorts {
    pub store: Arc<dyn LineageStore>,
    pub outbox: Arc<dyn LineageOutbox>,
    pub upkeep: Arc<dyn LineageUpkeep>,
    pub graph: Arc<dyn LineageGraphUpkeep>,
    pub leases: Arc<dyn TaskLeases>,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<ClockWatch>,
}

/// Bounds and times of lineage.
#[derive(Debug, Clone)]
pub struct LineageSettings {
    pub ingest: LineageIngestSettings,
    pub pruner: PrunerSettings,
    /// `None`: the node emits no events of its own.
    pub emitter: Option<OutboxRelaySettings>,
}

/// The running lineage actors.
#[derive(Clone)]
pub struct Lineage {
    pub ingest: LineageHandle,
    pub pruner: PrunerHandle,
    pub emitter: Option<OutboxRelayHandle>,
}

impl Lineage {
    /// Starts the actors. Needs a running actix system.
    ///
    /// # Errors
    /// When the database does not accept the setting that turns the node's own events on or off.
    pub async fn start(ports: &LineagePorts, settings: LineageSettings) -> PortResult<Self> {
        let LineagePorts { store, outbox, upkeep, graph, leases, clock, watch } = ports;
        outbox.set_emission(settings.emitter.is_some()).await?;
        let arbiter = Arbiter::new().handle();
        let deps = LineageIngestDeps { store: Arc::clone(store), clock: Arc::clone(clock) };
        let ingest = LineageHandle::start(settings.ingest, deps, &arbiter);
        ingest.started().await;
        let deps = PrunerDeps {
            upkeep: Arc::clone(upkeep),
            graph: Arc::clone(graph),
            leases: Arc::clone(leases),
            outbox: Arc::clone(outbox),
            clock: Arc::clone(clock),
            watch: Arc::clone(watch),
            holder: Uuid::new_v4(),
        };
        let pruner = PrunerHandle::start(deps, settings.pruner, &arbiter);
        let emitter = settings.emitter.map(|settings| {
            let deps = OutboxRelayDeps { outbox: Arc::clone(outbox), ingest: ingest.clone(), clock: Arc::clone(clock) };
            OutboxRelayHandle::start(deps, settings, &arbiter)
        });
        Ok(Self { ingest, pruner, emitter })
    }

    pub fn is_alive(&self) -> bool {
        let emits = self.emitter.as_ref().is_none_or(OutboxRelayHandle::is_alive);
        self.ingest.is_alive() && self.pruner.is_alive() && emits
    }

    /// How often actors died of a panic and were built again.
    pub fn actor_restarts(&self) -> u64 {
        self.ingest.restarts() + self.pruner.restarts() + self.emitter.as_ref().map_or(0, OutboxRelayHandle::restarts)
    }

    /// Ends pruning, and waits until no work is under way; false when some still is after `patience`. For shutdown,
    /// after the last request.
    pub async fn drain(&self, patience: Duration) -> bool {
        let (drained, _) = join(self.ingest.drain(patience), timeout(patience, self.pruner.stop())).await;
        drained
    }
}
