//! `LineagePruner`: the sliding window over lineage.
//!
//! What leaves, in this order: days that are older than the window, whole; the oldest events of namespaces that have more
//! than the window holds, with the runs of which nothing is left; runs of days that have left; edges that no event has told
//! of for the graph's time; jobs and datasets that nobody has named for as long and that no edge touches; namespaces
//! without anything; and what the outbox could not tell for a window's time.
//!
//! **Steps.** Each is one short transaction, oldest first, that takes only what nobody else holds; a pause follows it. A
//! step is as long as [`AIM`](crate::lineage_stride::AIM) allows, so that locks are short, and the pause as long as the
//! [pace](crate::lineage_stride::Pace) allows, so that the window keeps its size whatever comes in. **When steps fail**, those of the
//! other kinds go on; the ones that failed are tried again after the interval.
//! **One at a time.** A lease in the database says which instance prunes; it is kept from one pass to the next, and given back at a
//! clean stop. Every step is refused when the lease is not held any more, so an instance that was stopped for a while cannot prune
//! beside its successor. **When it is killed** the lease runs out, and whoever takes it goes on with what is still there: a step
//! happened or did not. **While the time cannot be relied on** what goes by age stays; what a namespace has too much goes all the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    clock::Clock,
    clock_watch::ClockWatch,
    lineage_stride::Pace,
    ports::{LineageOutbox, LineageUpkeep, PortResult},
};

mod pass;

pub use self::pass::{Passed, Troubles, pass};

/// What of a lease's time may pass before it is renewed.
const RENEW_AFTER: u32 = 3;

/// The lease is not renewed more often, however short it is.
const SOONEST_RENEWAL: Duration = Duration::from_millis(1);

/// The window, and how pruning goes about.
#[derive(Debug, Clone, Copy)]
pub struct PrunerSettings {
    /// From the end of a pass that left nothing over to the next one.
    pub interval: Duration,
    /// Rows of a step at most.
    pub step: u32,
    /// Between two steps, so that foreground work comes first. Shorter while more comes in than leaves.
    pub pause: Duration,
    /// So long after its death another instance goes on for this one.
    pub lease_ttl: Duration,
    /// Events are kept for so long, in whole UTC days.
    pub window: Duration,
    /// Events that a namespace may have.
    pub window_events: u64,
    /// Edges, jobs and datasets are kept for so long after they were last seen.
    pub graph: Duration,
}

/// What the pruner works on.
#[derive(Clone)]
pub struct PrunerDeps {
    pub upkeep: Arc<dyn LineageUpkeep>,
    pub outbox: Arc<dyn LineageOutbox>,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<ClockWatch>,
    /// This instance, for as long as it runs.
    pub holder: Uuid,
}

/// What the pruner has counted. What the window holds only the instance that prunes knows; the others say zero.
#[derive(Debug, Default)]
pub struct PrunerCounters {
    /// Passes that this instance came to the end of, whatever failed on the way.
    pub passes: AtomicU64,
    pub events: AtomicU64,
    pub runs: AtomicU64,
    pub edges: AtomicU64,
    pub nodes: AtomicU64,
    pub namespaces: AtomicU64,
    /// Entries of the outbox that were never told.
    pub untold: AtomicU64,
    /// Kinds whose steps failed, in each pass anew.
    pub failures: AtomicU64,
    /// Events in the window after the last pass.
    pub kept: AtomicU64,
    /// Events that were too many after the last pass.
    pub excess: AtomicU64,
    /// Seconds by which the oldest event is older than the window, after the last pass.
    pub lag_seconds: AtomicU64,
    /// Microseconds that the longest step took.
    pub longest_step: AtomicU64,
}

impl PrunerCounters {
    /// Another instance knows from now on.
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

/// The face of the pruner.
#[derive(Clone)]
pub struct PrunerHandle {
    addr: Addr<LineagePruner>,
    counters: Arc<PrunerCounters>,
}

impl PrunerHandle {
    pub fn start(deps: PrunerDeps, settings: PrunerSettings, arbiter: &ArbiterHandle) -> Self {
        let counters = Arc::new(PrunerCounters::default());
        let pruner = LineagePruner {
            deps,
            settings,
            pace: Pace::new(settings.pause),
            troubles: Troubles::default(),
            counters: Arc::clone(&counters),
            next: SpawnHandle::default(),
        };
        Self { addr: LineagePruner::start_in_arbiter(arbiter, |_| pruner), counters }
    }

    /// Ends pruning and gives the lease back, so that nobody need wait until it runs out. A step that is under way happens or does not.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.addr.try_send(Stop(reply)).is_ok() {
            let _ = stopped.await;
        }
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }

    pub fn counters(&self) -> &PrunerCounters {
        &self.counters
    }
}

/// The actor that makes passes for ever.
pub struct LineagePruner {
    deps: PrunerDeps,
    settings: PrunerSettings,
    pace: Pace,
    troubles: Troubles,
    counters: Arc<PrunerCounters>,
    /// The pass that is under way, or what comes next.
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
            if passed != Passed::Elsewhere {
                pruner.pace.passed(pruner.counters.excess.load(Relaxed));
            }
            let PrunerSettings { interval, lease_ttl, .. } = pruner.settings;
            let wait = match passed {
                Passed::More => pruner.pace.pause(),
                Passed::Done | Passed::Failed => interval,
                // The other one may have died just now.
                Passed::Elsewhere => interval.min(lease_ttl),
            };
            pruner.rest(wait, passed != Passed::Elsewhere, ctx);
        }));
    }

    /// Waits for the next pass. Whoever has the lease keeps it meanwhile: the instance that prunes goes on to, and is the one that says
    /// what the window holds.
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
        let (upkeep, holder, ttl) = (Arc::clone(&self.deps.upkeep), self.deps.holder, self.settings.lease_ttl);
        let renewed = async move { upkeep.lease_pruning(holder, ttl).await };
        self.next = ctx.spawn(renewed.into_actor(self).map(move |renewed, pruner, ctx| {
            if matches!(renewed, Ok(None)) {
                pruner.counters.forget_window();
            }
            // Why it could not be kept the next pass finds.
            pruner.rest(left, matches!(renewed, Ok(Some(_))), ctx);
        }));
    }
}

/// Gives the lease back if this instance has it. Whoever has it is told its token, and so is who takes it because nobody has.
async fn give_back(deps: &PrunerDeps, ttl: Duration) -> PortResult<()> {
    match deps.upkeep.lease_pruning(deps.holder, ttl).await? {
        Some(token) => deps.upkeep.release_pruning(token).await,
        None => Ok(()),
    }
}

impl Actor for LineagePruner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.run(ctx);
    }
}

impl Handler<Stop> for LineagePruner {
    type Result = ();

    fn handle(&mut self, Stop(reply): Stop, ctx: &mut Self::Context) {
        ctx.cancel_future(self.next);
        let (deps, ttl) = (self.deps.clone(), self.settings.lease_ttl);
        let back = async move {
            if let Err(error) = give_back(&deps, ttl).await {
                tracing::warn!(%error, "the lease of pruning lineage was not given back; it runs out");
            }
            let _ = reply.send(());
        };
        ctx.spawn(back.into_actor(self));
    }
}
