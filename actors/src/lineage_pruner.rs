//! `LineagePruner`: the sliding window over lineage.
//!
//! What leaves, in this order: days that are older than the window, whole; the oldest events of namespaces that have more
//! than the window holds, with the runs of which nothing is left; runs of days that have left; edges that no event has told
//! of for the graph's time; jobs and datasets that nobody has named for as long and that no edge touches; namespaces
//! without anything; and what the outbox could not tell for a window's time.
//!
//! **Steps.** Each is one short transaction, oldest first, that takes only what nobody else holds; a pause follows it. A
//! step is as long as [`AIM`](crate::lineage_stride::AIM) allows, so that locks are short, and the pause as long as the
//! [pace](crate::lineage_stride::Pace) allows, so that the window keeps its size whatever comes in.
//! **One at a time.** A lease in the database says which instance prunes. Every step is refused when the lease is not held
//! any more, so an instance that was stopped for a while cannot prune beside its successor. **When it is killed** the lease
//! runs out, and whoever takes it goes on with what is still there: a step happened or did not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, WrapFuture};
use jiff::{Timestamp, civil::Date};
use uuid::Uuid;

use crate::{
    clock::Clock,
    lineage_event::{day_of, start_of},
    lineage_stride::{Pace, Stride},
    ports::{LineageOutbox, LineageUpkeep, PortError, PortResult},
};

/// Steps of one kind in one pass. What is left waits for the next pass, which then comes at once: so no kind starves the
/// others, the counts are never old, and a pace that is too slow is noticed soon.
const STEPS: u32 = 20;

/// Namespaces that a pass trims; the fullest first.
const NAMESPACES: u32 = 100;

/// Days that are prepared, from today on: so long the pruner may be out of action unnoticed. A day that is missing is made
/// by whoever needs it, and costs that one a round trip.
const DAYS_AHEAD: i64 = 3;

/// What of a lease's time may pass before it is renewed.
const RENEW_AFTER: u32 = 3;

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
    /// This instance, for as long as it runs.
    pub holder: Uuid,
}

/// What the pruner has counted. Only the instance that prunes knows what the window holds; the others say zero.
#[derive(Debug, Default)]
pub struct PrunerCounters {
    /// Passes that this instance made.
    pub passes: AtomicU64,
    pub events: AtomicU64,
    pub runs: AtomicU64,
    pub edges: AtomicU64,
    pub nodes: AtomicU64,
    pub namespaces: AtomicU64,
    /// Entries of the outbox that were never told.
    pub untold: AtomicU64,
    /// Steps that failed.
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

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Another instance prunes.
    Elsewhere,
    Done,
    /// There is more to do.
    More,
}

/// One pass of pruning.
pub async fn pass(deps: &PrunerDeps, settings: &PrunerSettings, counters: &PrunerCounters) -> Passed {
    match Pass::begin(deps, settings, counters).await {
        Ok(Some(pass)) => pass.run().await,
        Ok(None) => Passed::Elsewhere,
        Err(error) => {
            counters.failures.fetch_add(1, Relaxed);
            tracing::warn!(%error, "lineage was not pruned; the next pass tries again");
            Passed::Done
        }
    }
}

struct Pass<'a> {
    deps: &'a PrunerDeps,
    settings: &'a PrunerSettings,
    counters: &'a PrunerCounters,
    token: i64,
    renewed: Instant,
    more: bool,
}

impl<'a> Pass<'a> {
    async fn begin(
        deps: &'a PrunerDeps,
        settings: &'a PrunerSettings,
        counters: &'a PrunerCounters,
    ) -> PortResult<Option<Self>> {
        let renewed = deps.clock.monotonic();
        let token = deps.upkeep.lease_pruning(deps.holder, settings.lease_ttl).await?;
        Ok(token.map(|token| Self { deps, settings, counters, token, renewed, more: false }))
    }

    async fn run(mut self) -> Passed {
        match self.steps().await {
            Ok(()) => {}
            Err(PortError::Fenced) => {
                tracing::warn!("another instance prunes lineage now");
                return Passed::Elsewhere;
            }
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                tracing::warn!(%error, "pruning lineage stopped; the next pass goes on");
                self.more = false;
            }
        }
        self.counters.passes.fetch_add(1, Relaxed);
        if self.more { Passed::More } else { Passed::Done }
    }

    async fn steps(&mut self) -> PortResult<()> {
        let (now, counters, settings) = (self.deps.clock.now(), self.counters, self.settings);
        let today = day_of(now);
        let days: Vec<Date> = (0..=DAYS_AHEAD).filter_map(|ahead| days_after(today, ahead)).collect();
        let upkeep = Arc::clone(&self.deps.upkeep);
        upkeep.prepare_days(&days).await?;

        let first_day = day_of(before(now, settings.window));
        self.repeat(&counters.events, async |token, rows| upkeep.drop_days(token, first_day, rows).await, 1).await?;
        for (namespace, excess) in upkeep.crowded(settings.window_events, NAMESPACES).await? {
            let mut left = excess;
            self.repeat(
                &counters.events,
                async |token, rows| {
                    let rows = rows.min(u32::try_from(left).unwrap_or(u32::MAX));
                    let gone = if rows == 0 { 0 } else { upkeep.trim(token, namespace, rows).await? };
                    left = left.saturating_sub(gone);
                    Ok(gone)
                },
                u64::MAX,
            )
            .await?;
        }
        self.repeat(&counters.runs, async |token, rows| upkeep.prune_runs(token, first_day, rows).await, u64::MAX)
            .await?;
        let oldest = day_of(before(now, settings.graph));
        self.repeat(&counters.edges, async |token, rows| upkeep.prune_edges(token, oldest, rows).await, u64::MAX)
            .await?;
        self.repeat(&counters.nodes, async |token, rows| upkeep.prune_nodes(token, oldest, rows).await, u64::MAX)
            .await?;
        self.repeat(
            &counters.namespaces,
            async |token, rows| upkeep.prune_namespaces(token, first_day, rows).await,
            u64::MAX,
        )
        .await?;
        let outbox = Arc::clone(&self.deps.outbox);
        let untold = before(now, settings.window);
        self.repeat(&counters.untold, async |_, rows| outbox.prune_outbox(untold, rows).await, u64::MAX).await?;

        let window = upkeep.window(settings.window_events).await?;
        counters.kept.store(window.events, Relaxed);
        counters.excess.store(window.excess, Relaxed);
        let lag = window.oldest_day.map_or(0, |day| start_of(first_day).as_second() - start_of(day).as_second());
        counters.lag_seconds.store(u64::try_from(lag).unwrap_or(0), Relaxed);
        Ok(())
    }

    /// Repeats a step until it finds less than it may take, or less than `enough`.
    async fn repeat(
        &mut self,
        counter: &AtomicU64,
        mut step: impl AsyncFnMut(i64, u32) -> PortResult<u64>,
        enough: u64,
    ) -> PortResult<()> {
        let mut stride = Stride::new(self.settings.step);
        for _ in 0..STEPS {
            self.keep_lease().await?;
            let began = self.deps.clock.monotonic();
            let done = step(self.token, stride.rows()).await?;
            let took = self.deps.clock.monotonic().saturating_duration_since(began);
            counter.fetch_add(done, Relaxed);
            self.counters.longest_step.fetch_max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
            if done < u64::from(stride.rows()).min(enough) {
                return Ok(());
            }
            stride.stepped(done, took);
            tokio::time::sleep(self.settings.pause).await;
        }
        self.more = true;
        Ok(())
    }

    /// Renews the lease in good time.
    async fn keep_lease(&mut self) -> PortResult<()> {
        let now = self.deps.clock.monotonic();
        if now.saturating_duration_since(self.renewed) < self.settings.lease_ttl / RENEW_AFTER {
            return Ok(());
        }
        match self.deps.upkeep.lease_pruning(self.deps.holder, self.settings.lease_ttl).await? {
            Some(token) => {
                self.token = token;
                self.renewed = now;
                Ok(())
            }
            None => Err(PortError::Fenced),
        }
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

fn days_after(day: Date, days: i64) -> Option<Date> {
    day.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

/// The face of the pruner.
#[derive(Clone)]
pub struct PrunerHandle {
    addr: Addr<LineagePruner>,
    counters: Arc<PrunerCounters>,
}

impl PrunerHandle {
    pub fn start(deps: PrunerDeps, settings: PrunerSettings, arbiter: &ArbiterHandle) -> Self {
        let counters = Arc::new(PrunerCounters::default());
        let pace = Pace::new(settings.pause);
        let pruner = LineagePruner { deps, settings, pace, counters: Arc::clone(&counters) };
        Self { addr: LineagePruner::start_in_arbiter(arbiter, |_| pruner), counters }
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
    counters: Arc<PrunerCounters>,
}

impl LineagePruner {
    fn run(&mut self, ctx: &mut Context<Self>) {
        let (deps, counters) = (self.deps.clone(), Arc::clone(&self.counters));
        let settings = PrunerSettings { pause: self.pace.pause(), ..self.settings };
        let round = async move { pass(&deps, &settings, &counters).await };
        ctx.spawn(round.into_actor(self).map(|passed, pruner, ctx| {
            if passed != Passed::Elsewhere {
                pruner.pace.passed(pruner.counters.excess.load(Relaxed));
            }
            let wait = if passed == Passed::More { pruner.pace.pause() } else { pruner.settings.interval };
            ctx.run_later(wait, Self::run);
        }));
    }
}

impl Actor for LineagePruner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.run(ctx);
    }
}
