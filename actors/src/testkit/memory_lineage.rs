//! Lineage in memory, for tests of its actors: it keeps events, outbox entries and a lease, and fails by script. It
//! derives no graph; the conformance suite is for adapters that do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use uuid::Uuid;

use super::script::Script;
use crate::{
    ids::RunId,
    lineage::event::day_of,
    model::{EventHash, Graph, GraphWalk, LineageEvent, LineageNode, NamespaceKey, NodeDetail, NodeKey, RunDetail},
    ports::{
        EventOutcome, Ingested, LeasedTask, LineageGraphUpkeep, LineageOutbox, LineageStore, LineageUpkeep,
        OutboxEntry, PortError, PortResult, TaskLease, TaskLeases, WindowState,
    },
};

/// An event whose body contains this is rejected, with all of its batch.
pub const POISON: &str = "poison";

#[derive(Default)]
struct State {
    events: BTreeMap<NamespaceKey, BTreeSet<(Timestamp, EventHash)>>,
    outbox: BTreeMap<i64, (OutboxEntry, bool)>,
    old_edges: u64,
    holder: Option<Uuid>,
    token: i64,
}

/// Lineage in memory.
#[derive(Default)]
pub struct MemoryLineage {
    pub script: Script,
    state: Mutex<State>,
}

impl MemoryLineage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that it keeps.
    pub fn kept(&self) -> usize {
        self.state().events.values().map(BTreeSet::len).sum()
    }

    /// Puts an entry into the outbox.
    pub fn add_entry(&self, entry: OutboxEntry) {
        self.state().outbox.insert(entry.id, (entry, false));
    }

    /// Entries not emitted yet.
    pub fn unsent(&self) -> usize {
        self.state().outbox.len()
    }

    /// Adds this many edges that are due to be pruned.
    pub fn has_old_edges(&self, edges: u64) {
        self.state().old_edges = edges;
    }

    /// Lets every claim run out.
    pub fn claims_run_out(&self) {
        self.state().outbox.values_mut().for_each(|(_, claimed)| *claimed = false);
    }

    /// Gives the lease to this holder, whichever had it before.
    pub fn lease_goes_to(&self, holder: Uuid) {
        let mut state = self.state();
        state.holder = Some(holder);
        state.token += 1;
    }
}

impl State {
    fn held(&self, lease: TaskLease) -> PortResult<()> {
        if self.holder.is_some() && self.token == lease.token { Ok(()) } else { Err(PortError::Fenced) }
    }

    fn keep(&mut self, event: &LineageEvent) -> EventOutcome {
        let namespace = NamespaceKey::of(&event.subject().name.namespace);
        let new = self.events.entry(namespace).or_default().insert((event.time, event.hash));
        if new { EventOutcome::New } else { EventOutcome::Known }
    }
}

#[async_trait]
impl LineageStore for MemoryLineage {
    async fn ingest(&self, events: &[LineageEvent], _: Timestamp) -> PortResult<Ingested> {
        let work = || {
            if events.iter().any(|event| event.body.contains(POISON)) {
                return Err(PortError::rejected("the scripted port", "there is poison in it"));
            }
            let mut state = self.state();
            Ok(Ingested { kept: events.iter().map(|event| state.keep(event)).collect(), grew: false })
        };
        self.script.play("ingest", events.len(), work).await
    }

    async fn nodes(&self, _: &[NodeKey]) -> PortResult<Vec<LineageNode>> {
        Ok(Vec::new())
    }

    async fn node(&self, _: NodeKey) -> PortResult<Option<NodeDetail>> {
        Ok(None)
    }

    async fn graph(&self, _: &GraphWalk) -> PortResult<Option<Arc<Graph>>> {
        Ok(None)
    }

    async fn run(&self, _: RunId) -> PortResult<Option<RunDetail>> {
        Ok(None)
    }

    async fn search(&self, _: &[String], _: u32) -> PortResult<Vec<LineageNode>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl LineageOutbox for MemoryLineage {
    async fn set_emission(&self, _: bool) -> PortResult<()> {
        Ok(())
    }

    async fn claim(&self, limit: u32, _: Duration) -> PortResult<Vec<OutboxEntry>> {
        let work = || {
            let mut state = self.state();
            let free = state.outbox.values_mut().filter(|(_, claimed)| !claimed).take(limit as usize);
            Ok(free
                .map(|(entry, claimed)| {
                    *claimed = true;
                    entry.clone()
                })
                .collect())
        };
        self.script.play("claim", limit as usize, work).await
    }

    async fn mark_emitted(&self, ids: &[i64]) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            ids.iter().for_each(|id| drop(state.outbox.remove(id)));
            Ok(())
        };
        self.script.play("mark_emitted", ids.len(), work).await
    }

    async fn prune_outbox(&self, before: Timestamp, _: u32) -> PortResult<u64> {
        let mut state = self.state();
        let there = state.outbox.len();
        state.outbox.retain(|_, (entry, _)| entry.happened_at >= before);
        Ok((there - state.outbox.len()) as u64)
    }
}

#[async_trait]
impl LineageUpkeep for MemoryLineage {
    async fn prepare_days(&self, _: &[Date]) -> PortResult<u64> {
        self.script.play("prepare_days", 0, || Ok(0)).await
    }

    async fn drop_days(&self, lease: TaskLease, day: Date, limit: u32) -> PortResult<Option<u64>> {
        let work = || {
            let mut state = self.state();
            state.held(lease)?;
            let mut gone = 0;
            for events in state.events.values_mut() {
                while gone < u64::from(limit) && events.first().is_some_and(|(time, _)| day_of(*time) < day) {
                    events.pop_first();
                    gone += 1;
                }
            }
            Ok((gone > 0).then_some(gone))
        };
        self.script.play("drop_days", limit as usize, work).await
    }

    async fn oversized_namespaces(&self, most: u64, _: u32) -> PortResult<Vec<(NamespaceKey, u64)>> {
        let state = self.state();
        let excess = |events: &BTreeSet<_>| (events.len() as u64).saturating_sub(most);
        Ok(state.events.iter().map(|(key, events)| (*key, excess(events))).filter(|(_, excess)| *excess > 0).collect())
    }

    async fn trim(&self, lease: TaskLease, namespace: NamespaceKey, limit: u32) -> PortResult<u64> {
        let work = || {
            let mut state = self.state();
            state.held(lease)?;
            let events = state.events.entry(namespace).or_default();
            let gone = (0..limit).map_while(|_| events.pop_first()).count();
            Ok(gone as u64)
        };
        self.script.play("trim", limit as usize, work).await
    }

    async fn prune_runs(&self, lease: TaskLease, _: Date, _: u32) -> PortResult<u64> {
        self.script.play("prune_runs", 0, || self.state().held(lease).map(|()| 0)).await
    }

    async fn prune_namespaces(&self, lease: TaskLease, _: Date, _: u32) -> PortResult<u64> {
        self.script.play("prune_namespaces", 0, || self.state().held(lease).map(|()| 0)).await
    }

    async fn window(&self, most: u64) -> PortResult<WindowState> {
        let state = self.state();
        let events = state.events.values().map(|events| events.len() as u64);
        let oldest = state.events.values().filter_map(|events| events.first()).map(|(time, _)| day_of(*time)).min();
        let excess = events.clone().map(|events| events.saturating_sub(most)).sum();
        Ok(WindowState { events: events.sum(), excess, oldest_day: oldest })
    }
}

#[async_trait]
impl LineageGraphUpkeep for MemoryLineage {
    async fn prune_edges(&self, lease: TaskLease, _: Date, limit: u32) -> PortResult<u64> {
        let work = || {
            let mut state = self.state();
            state.held(lease)?;
            let gone = state.old_edges.min(u64::from(limit));
            state.old_edges -= gone;
            Ok(gone)
        };
        self.script.play("prune_edges", limit as usize, work).await
    }

    async fn prune_nodes(&self, lease: TaskLease, _: Date, _: u32) -> PortResult<u64> {
        self.script.play("prune_nodes", 0, || self.state().held(lease).map(|()| 0)).await
    }
}

#[async_trait]
impl TaskLeases for MemoryLineage {
    async fn acquire(&self, _: LeasedTask, holder: Uuid, _: Duration) -> PortResult<Option<TaskLease>> {
        let work = || {
            let mut state = self.state();
            match state.holder {
                Some(other) if other != holder => return Ok(None),
                Some(_) => {}
                None => state.token += 1,
            }
            state.holder = Some(holder);
            Ok(Some(TaskLease { holder, token: state.token }))
        };
        self.script.play("acquire", 0, work).await
    }

    async fn release(&self, _: LeasedTask, lease: TaskLease) -> PortResult<()> {
        let mut state = self.state();
        if state.token == lease.token {
            state.holder = None;
        }
        Ok(())
    }
}
