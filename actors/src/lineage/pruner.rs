//! `LineagePruner`: the sliding window over lineage.
//!
//! It removes, in this order: whole days that are older than the window; the oldest events of namespaces that have more
//! than the window holds, and runs left without events; runs of removed days; edges that no event has named for the
//! time that the graph is kept; jobs and datasets that no event has named for as long and that no edge touches; empty
//! namespaces; and outbox entries that could not be emitted for the length of the window.
//!
//! **Steps.** Each step is one short transaction, oldest first, that skips rows locked by others; a pause follows it. A
//! step takes as many rows as fit into [`AIM`](self::batch_size::AIM), so that locks are short. The pause is as
//! long as the [pace](self::batch_size::PruneThrottle) allows, so that the window keeps its size whatever the load.
//!
//! **When steps of one kind fail**, the other kinds go on; the failed ones are tried again after the interval.
//!
//! **One at a time.** A lease in the database says which instance prunes. It is kept from one pass to the next, and
//! given back at a clean stop. Every step is refused when the lease is no longer held, so an instance that was paused
//! for a while cannot prune beside its successor. **When it is killed** the lease runs out, and the next holder goes on
//! with the rows that are left: a step either committed or did not.
//!
//! **While the time is unreliable**, rows that would be removed by age stay; the excess of a namespace is removed all
//! the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::oneshot;
use uuid::Uuid;

use self::batch_size::PruneThrottle;
use crate::{
    clock::{Clock, watch::ClockWatch},
    mailbox::Posted,
    ports::{LeasedTask, LineageGraphUpkeep, LineageOutbox, LineageUpkeep, PortResult, TaskLeases},
    supervision::Supervised,
};

pub mod batch_size;
mod pass;

pub use self::pass::{PassOutcome, Troubles, pass};

/// Renew the lease after this fraction of its time.
const RENEW_AFTER: u32 = 3;

/// The shortest time between two renewals, however short the lease is.
const SOONEST_RENEWAL: Duration = Duration::from_millis(1);

/// The window, and the pace of pruning.
#[derive(Debug, Clone, Copy)]
pub struct PrunerSettings {
    /// The wait after a pass that left nothing to do.
    pub interval: Duration,
    /// The most rows that one step removes.
    pub step: u32,
    /// The wait between two steps, so that foreground work comes first. Shorter while more events come in than leave.
    pub pause: Duration,
    /// How long after this instance's death another one may take over.
    pub lease_ttl: Duration,
    /// How long events are kept, in whole UTC days.
    pub window: Duration,
    /// The most events of one namespace.
    pub window_events: u64,
    /// How long edges, jobs and datasets are kept after they were last seen.
    pub graph: Duration,
}

/// Dependencies of the pruner.
#[derive(Clone)]
pub struct PrunerDeps {
    pub upkeep: Arc<dyn LineageUpkeep>,
    pub graph: Arc<dyn LineageGraphUpkeep>,
    pub leases: Arc<dyn TaskLeases>,
    pub outbox: Arc<dyn LineageOutbox>,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<ClockWatch>,
    /// The id of this instance's process, as holder of the lease.
    pub holder: Uuid,
}

/// The counters of the pruner. Only the instance that prunes knows the size of the window; the others report zero.
#[derive(Debug, Default)]
pub struct PrunerCounters {
    /// Passes that this instance finished, with failed steps or without.
    pub passes: AtomicU64,
    pub events: AtomicU64,
    pub runs: AtomicU64,
    pub edges: AtomicU64,
    pub nodes: AtomicU64,
    pub namespaces: AtomicU64,
    /// Outbox entries removed without having been emitted.
    pub untold: AtomicU64,
    /// Kinds whose steps failed, counted in each pass.
    pub failures: AtomicU64,
    /// Events in the window after the last pass.
    pub kept: AtomicU64,
    /// Events beyond the limit after the last pass.
    pub excess: AtomicU64,
    /// Seconds by which the oldest event is older than the window, after the last pass.
    pub lag_seconds: AtomicU64,
    /// Microseconds of the longest step.
    pub longest_step: AtomicU64,
}

impl PrunerCounters {
    /// Zeroes the gauges: another instance prunes and reports them from now on.
    fn forget_window(&self) {
        for gauge in [&self.kept, &self.excess, &self.lag_seconds] {
            gauge.store(0, Relaxed);
        }
    }
}

/// Ends pruning, and gives the lease back.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Stop(oneshot::Sender<()>);

/// The handle of the pruner.
#[derive(Clone)]
pub struct PrunerHandle {
    pruner: Supervised<LineagePruner>,
    counters: Arc<PrunerCounters>,
}

impl PrunerHandle {
    pub fn start(deps: PrunerDeps, settings: PrunerSettings, arbiter: &ArbiterHandle) -> Self {
        let counters = Arc::new(PrunerCounters::default());
        let counted = Arc::clone(&counters);
        let pruner = Supervised::start("lineage pruner", arbiter, move |_| LineagePruner {
            deps: deps.clone(),
            settings,
            pace: PruneThrottle::new(settings.pause),
            troubles: Troubles::default(),
            counters: Arc::clone(&counted),
            next: SpawnHandle::default(),
        });
        Self { pruner, counters }
    }

    /// Ends pruning and gives the lease back, so that its successor need not wait for it to run out. A step under way
    /// either commits or does not.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.pruner.try_send(Stop(reply)).is_ok() {
            let _ = stopped.await;
        }
    }

    pub fn is_alive(&self) -> bool {
        !self.pruner.is_given_up()
    }

    pub fn restarts(&self) -> u64 {
        self.pruner.restarts()
    }

    pub fn counters(&self) -> &PrunerCounters {
        &self.counters
    }
}

/// The actor that runs passes for ever.
pub struct LineagePruner {
    deps: PrunerDeps,
    settings: PrunerSettings,
    pace: PruneThrottle,
    troubles: Troubles,
    counters: Arc<PrunerCounters>,
    /// The running pass, or the timer for the next one.
    next: SpawnHandle,
}

impl LineagePruner {
    fn run(&mut self, ctx: &mut Context<Self>) {
        let (deps, counters) = (self.deps.clone(), Arc::clone(&self.counters));
        let settings = PrunerSettings { pause: self.pace.pause(), ..self.settings };
        let mut troubles = std::mem::take(&mut self.troubles);
        let round = async move {
            let passed = pass(&deps, &settings, &counters, &mut troubles).await;
            (passed, troubles)
        };
        self.next = ctx.spawn(round.into_actor(self).map(|(passed, troubles), pruner, ctx| {
            pruner.troubles = troubles;
            if passed != PassOutcome::Elsewhere {
                pruner.pace.passed(pruner.counters.excess.load(Relaxed));
            }
            let PrunerSettings { interval, lease_ttl, .. } = pruner.settings;
            let wait = match passed {
                PassOutcome::More => pruner.pace.pause(),
                PassOutcome::Done | PassOutcome::Failed => interval,
                // The other instance may have died just now.
                PassOutcome::Elsewhere => interval.min(lease_ttl),
            };
            pruner.rest(wait, passed != PassOutcome::Elsewhere, ctx);
        }));
    }

    /// Waits for the next pass. The instance that prunes keeps its lease meanwhile, so the same instance goes on
    /// pruning and reports the size of the window.
    fn rest(&mut self, wait: Duration, keeps: bool, ctx: &mut Context<Self>) {
        let renewal = (self.settings.lease_ttl / RENEW_AFTER).max(SOONEST_RENEWAL);
        let part = if keeps { wait.min(renewal) } else { wait };
        let left = wait.saturating_sub(part);
        self.next = ctx.run_later(part, move |pruner, ctx| match left {
            Duration::ZERO => pruner.run(ctx),
            left => pruner.renew(left, ctx),
        });
    }

    fn renew(&mut self, left: Duration, ctx: &mut Context<Self>) {
        let (leases, holder, ttl) = (Arc::clone(&self.deps.leases), self.deps.holder, self.settings.lease_ttl);
        let renewed = async move { leases.acquire(LeasedTask::PruneLineage, holder, ttl).await };
        self.next = ctx.spawn(renewed.into_actor(self).map(move |renewed, pruner, ctx| {
            if matches!(renewed, Ok(None)) {
                pruner.counters.forget_window();
            }
            // The next pass finds out why the lease could not be renewed.
            pruner.rest(left, matches!(renewed, Ok(Some(_))), ctx);
        }));
    }
}

/// Gives the lease back if this instance holds it. Acquiring returns the token, whether this node already held the
/// lease or it was free.
async fn give_back(deps: &PrunerDeps, ttl: Duration) -> PortResult<()> {
    match deps.leases.acquire(LeasedTask::PruneLineage, deps.holder, ttl).await? {
        Some(lease) => deps.leases.release(LeasedTask::PruneLineage, lease).await,
        None => Ok(()),
    }
}

impl Actor for LineagePruner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.run(ctx);
    }
}

impl Handler<Posted<Stop>> for LineagePruner {
    type Result = ();

    fn handle(&mut self, stop: Posted<Stop>, ctx: &mut Self::Context) {
        let Stop(reply) = stop.open();
        ctx.cancel_future(self.next);
        let (deps, ttl) = (self.deps.clone(), self.settings.lease_ttl);
        let back = async move {
            if let Err(error) = give_back(&deps, ttl).await {
                tracing::warn!(%error, "the lease for pruning lineage was not given back; no instance prunes until it has run out");
            }
            let _ = reply.send(());
        };
        ctx.spawn(back.into_actor(self));
    }
}
