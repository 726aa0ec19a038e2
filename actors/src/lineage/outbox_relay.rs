//! `OutboxRelay`: turns the outbox of the ledger and the catalogue into lineage events.
//!
//! The database writes an outbox entry in the same transaction as the change it describes, so every committed change
//! has its events, and no other change has any. This actor takes entries, makes events of them, and gives those to the
//! ingest. An entry is removed when its events are durable. **After a crash** in between, another instance takes the
//! entry again. The same entry always makes the same events, so they are recognised as known. **When lineage is down**,
//! entries wait in the database. Streams, uploads and receipts never wait for this actor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};

use crate::{
    clock::Clock,
    lineage::{
        event::EventBounds,
        ingest::LineageHandle,
        node_events::{NodeEventNames, events},
    },
    model::LineageEvent,
    ports::{LineageOutbox, PortError, PortResult},
    supervision::Supervised,
};

/// Entries taken at a time. An entry for a batch of usage makes up to one event per content.
const ENTRIES: u32 = 50;

/// Events given to the ingest at a time.
const EVENTS: usize = 200;

/// How long this instance holds the entries it took: longer than emitting them may take.
const CLAIM: Duration = Duration::from_secs(60);

/// How long to wait for room in the ingest's queue.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the node emits its own events.
#[derive(Debug, Clone)]
pub struct OutboxRelaySettings {
    pub names: NodeEventNames,
    pub bounds: EventBounds,
    /// The wait after a look that found the outbox empty.
    pub interval: Duration,
}

/// Dependencies of the emitter.
#[derive(Clone)]
pub struct OutboxRelayDeps {
    pub outbox: Arc<dyn LineageOutbox>,
    pub ingest: LineageHandle,
    pub clock: Arc<dyn Clock>,
}

/// The counters of the emitter.
#[derive(Debug, Default)]
pub struct OutboxRelayCounters {
    /// Entries whose events are durable.
    pub emitted: AtomicU64,
    /// Entries that make no event, such as those that are older than the window.
    pub skipped: AtomicU64,
    /// Failed attempts to emit.
    pub failures: AtomicU64,
}

/// Emits up to [`ENTRIES`]; returns whether there may be more.
///
/// # Errors
/// The outbox's or the ingest's own. Entries not emitted by then are emitted later.
pub async fn tell(
    deps: &OutboxRelayDeps,
    settings: &OutboxRelaySettings,
    counters: &OutboxRelayCounters,
) -> PortResult<bool> {
    let entries = deps.outbox.claim(ENTRIES, CLAIM).await?;
    let more = entries.len() == ENTRIES as usize;
    let (mut made, mut ids) = (Vec::new(), Vec::with_capacity(entries.len()));
    let now = deps.clock.now();
    for entry in &entries {
        ids.push(entry.id);
        match events(entry, &settings.names, &settings.bounds, now) {
            Ok(events) => made.extend(events),
            Err(error) => {
                counters.skipped.fetch_add(1, Relaxed);
                tracing::warn!(%error, entry = entry.id, kind = entry.kind.as_str(), "an outbox entry makes no lineage event; this node drops the entry");
            }
        }
    }
    while !made.is_empty() {
        let rest = made.split_off(EVENTS.min(made.len()));
        keep(deps, std::mem::replace(&mut made, rest)).await?;
    }
    if !ids.is_empty() {
        deps.outbox.mark_emitted(&ids).await?;
        counters.emitted.fetch_add(ids.len() as u64, Relaxed);
    }
    Ok(more)
}

async fn keep(deps: &OutboxRelayDeps, events: Vec<LineageEvent>) -> PortResult<()> {
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    let permit = deps.ingest.admit_in_time(u32::try_from(bytes).unwrap_or(u32::MAX), PATIENCE).await;
    let permit = permit.ok_or_else(|| PortError::unavailable("lineage ingest", "its queue is full"))?;
    deps.ingest.keep(events, permit).await.map(drop)
}

/// The handle of the emitter.
#[derive(Clone)]
pub struct OutboxRelayHandle {
    relay: Supervised<OutboxRelay>,
    counters: Arc<OutboxRelayCounters>,
}

impl OutboxRelayHandle {
    pub fn start(deps: OutboxRelayDeps, settings: OutboxRelaySettings, arbiter: &ArbiterHandle) -> Self {
        let counters = Arc::new(OutboxRelayCounters::default());
        let counted = Arc::clone(&counters);
        let relay = Supervised::start("outbox relay", arbiter, move |_| OutboxRelay {
            deps: deps.clone(),
            settings: settings.clone(),
            counters: Arc::clone(&counted),
        });
        Self { relay, counters }
    }

    pub fn is_alive(&self) -> bool {
        !self.relay.is_given_up()
    }

    pub fn restarts(&self) -> u64 {
        self.relay.restarts()
    }

    pub fn counters(&self) -> &OutboxRelayCounters {
        &self.counters
    }
}

/// The actor that emits for ever.
pub struct OutboxRelay {
    deps: OutboxRelayDeps,
    settings: OutboxRelaySettings,
    counters: Arc<OutboxRelayCounters>,
}

impl OutboxRelay {
    fn run(&mut self, ctx: &mut Context<Self>) {
        let (deps, settings, counters) = (self.deps.clone(), self.settings.clone(), Arc::clone(&self.counters));
        let round = async move {
            tell(&deps, &settings, &counters).await.unwrap_or_else(|error| {
                counters.failures.fetch_add(1, Relaxed);
                tracing::warn!(%error, "outbox entries were not sent to lineage; they stay in the outbox, and this node tries again");
                false
            })
        };
        ctx.spawn(round.into_actor(self).map(|more, emitter, ctx| {
            if more {
                return emitter.run(ctx);
            }
            ctx.run_later(emitter.settings.interval, Self::run);
        }));
    }
}

impl Actor for OutboxRelay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.run(ctx);
    }
}
