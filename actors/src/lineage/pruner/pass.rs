//! One pass: each kind of row has steps of its own, and none waits for another kind that fails.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::{Timestamp, civil::Date};

use super::{PrunerCounters, PrunerDeps, PrunerSettings, RENEW_AFTER};
use crate::{
    clock::before,
    lineage::{
        event::{day_of, start_of},
        pruner::batch_size::AdaptiveBatchSize,
    },
    ports::{LeasedTask, PortError, PortResult, TaskLease},
};

/// Steps of one kind in one pass, or of one crowded namespace. The rest waits for the next pass, which then follows at
/// once: so no kind starves the others, the counts are never old, and a pace that is too slow is noticed soon.
const STEPS: u32 = 20;

/// Namespaces that a pass trims, fullest first.
const NAMESPACES: u32 = 100;

/// Days for which partitions are made, from today on: the pruner may be down for this long without effect. After that
/// the first write of a day makes its partition, at the cost of one round trip.
const DAYS_AHEAD: i64 = 3;

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOutcome {
    /// Another instance prunes.
    Elsewhere,
    Done,
    /// There is more to do.
    More,
    /// Only work that failed is left.
    Failed,
}

/// The kinds of work of a pass, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PruneKind {
    Ahead,
    Time,
    Days,
    Excess,
    Runs,
    Edges,
    Nodes,
    Namespaces,
    Untold,
    Window,
}

impl PruneKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ahead => "days ahead",
            Self::Time => "the time",
            Self::Days => "days older than the window",
            Self::Excess => "excess events",
            Self::Runs => "runs",
            Self::Edges => "edges",
            Self::Nodes => "jobs and datasets",
            Self::Namespaces => "namespaces",
            Self::Untold => "unsent outbox entries",
            Self::Window => "the size of the window",
        }
    }
}

/// Kinds that failed, and when. A kind that failed waits for the interval, however soon the next pass comes. Otherwise each
/// attempt may cost a time-out (as for a day that a long reader holds), and the other kinds would wait for it each time.
#[derive(Debug, Default)]
pub struct Troubles(HashMap<PruneKind, Instant>);

/// The outcome of a step.
struct StepResult {
    gone: u64,
    /// Whether there may be more.
    more: bool,
}

impl StepResult {
    /// The outcome of a step that removes up to `rows`.
    fn of(gone: u64, rows: u32) -> Self {
        Self { gone, more: gone >= u64::from(rows) }
    }
}

/// The lease is lost.
struct Fenced;

/// One pass of pruning.
pub async fn pass(
    deps: &PrunerDeps,
    settings: &PrunerSettings,
    counters: &PrunerCounters,
    troubles: &mut Troubles,
) -> PassOutcome {
    let renewed = deps.clock.monotonic();
    let lease = match deps.leases.acquire(LeasedTask::PruneLineage, deps.holder, settings.lease_ttl).await {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            counters.forget_window();
            return PassOutcome::Elsewhere;
        }
        Err(error) => {
            counters.failures.fetch_add(1, Relaxed);
            tracing::warn!(%error, "the lease for pruning lineage could not be acquired; the next pass tries again");
            return PassOutcome::Failed;
        }
    };
    let mut pass = PrunePass { deps, settings, counters, troubles, lease, renewed, more: false, failed: false };
    if let Err(Fenced) = pass.all().await {
        tracing::warn!("this node lost the lease for pruning lineage; another instance prunes now");
        counters.forget_window();
        return PassOutcome::Elsewhere;
    }
    counters.passes.fetch_add(1, Relaxed);
    match pass {
        PrunePass { more: true, .. } => PassOutcome::More,
        PrunePass { failed: true, .. } => PassOutcome::Failed,
        _ => PassOutcome::Done,
    }
}

struct PrunePass<'a> {
    deps: &'a PrunerDeps,
    settings: &'a PrunerSettings,
    counters: &'a PrunerCounters,
    troubles: &'a mut Troubles,
    lease: TaskLease,
    renewed: Instant,
    more: bool,
    failed: bool,
}

impl PrunePass<'_> {
    async fn all(&mut self) -> Result<(), Fenced> {
        let (now, counters, settings) = (self.deps.clock.now(), self.counters, self.settings);
        let first_day = day_of(since(now, settings.window));
        let upkeep = Arc::clone(&self.deps.upkeep);

        if self.is_due(PruneKind::Ahead) {
            let today = day_of(now);
            let days: Vec<Date> = (0..=DAYS_AHEAD).filter_map(|ahead| days_after(today, ahead)).collect();
            let made = upkeep.prepare_days(&days).await;
            self.went(PruneKind::Ahead, made)?;
        }
        let proven = self.deps.watch.proven().await;
        let proven = self.went(PruneKind::Time, proven)?.flatten();
        if let Some(now) = proven {
            self.drop_days(day_of(since(now, settings.window))).await?;
        }
        self.trim().await?;
        if let Some(now) = proven {
            self.prune(now).await?;
        }

        let window = upkeep.window(settings.window_events).await;
        if let Some(window) = self.went(PruneKind::Window, window)? {
            counters.kept.store(window.events, Relaxed);
            counters.excess.store(window.excess, Relaxed);
            let lag = window.oldest_day.map_or(0, |day| start_of(first_day).as_second() - start_of(day).as_second());
            counters.lag_seconds.store(u64::try_from(lag).unwrap_or(0), Relaxed);
        }
        Ok(())
    }

    /// Removes whole days older than the window.
    async fn drop_days(&mut self, first_day: Date) -> Result<(), Fenced> {
        let (upkeep, counters) = (Arc::clone(&self.deps.upkeep), self.counters);
        let dropped = self.repeat(PruneKind::Days, &counters.events, async |lease, rows| {
            let gone = upkeep.drop_days(lease, first_day, rows).await?;
            Ok(StepResult { gone: gone.unwrap_or(0), more: gone.is_some() })
        });
        dropped.await.map(drop)
    }

    /// Removes the other rows that leave by age.
    async fn prune(&mut self, now: Timestamp) -> Result<(), Fenced> {
        let (counters, settings) = (self.counters, self.settings);
        let over = since(now, settings.window);
        let (first_day, oldest) = (day_of(over), day_of(since(now, settings.graph)));
        let PrunerDeps { upkeep, graph, outbox, .. } = self.deps;
        self.repeat(PruneKind::Runs, &counters.runs, async |lease, rows| {
            upkeep.prune_runs(lease, first_day, rows).await.map(|gone| StepResult::of(gone, rows))
        })
        .await?;
        let no_edge_is_left = self
            .repeat(PruneKind::Edges, &counters.edges, async |lease, rows| {
                graph.prune_edges(lease, oldest, rows).await.map(|gone| StepResult::of(gone, rows))
            })
            .await?;
        // An old job or dataset has old edges only. While those exist, each step would scan many nodes with edges to
        // find the few without any.
        if no_edge_is_left {
            self.repeat(PruneKind::Nodes, &counters.nodes, async |lease, rows| {
                graph.prune_nodes(lease, oldest, rows).await.map(|gone| StepResult::of(gone, rows))
            })
            .await?;
        }
        self.repeat(PruneKind::Namespaces, &counters.namespaces, async |lease, rows| {
            upkeep.prune_namespaces(lease, first_day, rows).await.map(|gone| StepResult::of(gone, rows))
        })
        .await?;
        let untold = self.repeat(PruneKind::Untold, &counters.untold, async |_, rows| {
            outbox.prune_outbox(over, rows).await.map(|gone| StepResult::of(gone, rows))
        });
        untold.await.map(drop)
    }

    /// Removes the excess events of namespaces.
    async fn trim(&mut self) -> Result<(), Fenced> {
        if !self.is_due(PruneKind::Excess) {
            return Ok(());
        }
        let upkeep = Arc::clone(&self.deps.upkeep);
        let oversized_namespaces = upkeep.oversized_namespaces(self.settings.window_events, NAMESPACES).await;
        for (namespace, mut left) in self.went(PruneKind::Excess, oversized_namespaces)?.unwrap_or_default() {
            let counters = self.counters;
            let steps = self.steps(&counters.events, async |lease, rows| {
                let wanted = rows.min(u32::try_from(left).unwrap_or(u32::MAX));
                let gone = if wanted == 0 { 0 } else { upkeep.trim(lease, namespace, wanted).await? };
                left = left.saturating_sub(gone);
                Ok(StepResult::of(gone, rows))
            });
            let steps = steps.await;
            if self.went(PruneKind::Excess, steps)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Runs the steps of a kind; returns whether nothing is left to remove.
    async fn repeat(
        &mut self,
        kind: PruneKind,
        counter: &AtomicU64,
        step: impl AsyncFnMut(TaskLease, u32) -> PortResult<StepResult>,
    ) -> Result<bool, Fenced> {
        if !self.is_due(kind) {
            return Ok(false);
        }
        let steps = self.steps(counter, step).await;
        Ok(self.went(kind, steps)?.unwrap_or(false))
    }

    /// Repeats a step until nothing is left; returns whether that is so.
    async fn steps(
        &mut self,
        counter: &AtomicU64,
        mut step: impl AsyncFnMut(TaskLease, u32) -> PortResult<StepResult>,
    ) -> PortResult<bool> {
        let mut stride = AdaptiveBatchSize::new(self.settings.step);
        for _ in 0..STEPS {
            self.keep_lease().await?;
            let began = self.deps.clock.monotonic();
            let StepResult { gone, more } = step(self.lease, stride.rows()).await?;
            let took = self.deps.clock.monotonic().saturating_duration_since(began);
            counter.fetch_add(gone, Relaxed);
            self.counters.longest_step.fetch_max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
            if !more {
                return Ok(true);
            }
            stride.stepped(gone, took);
            tokio::time::sleep(self.settings.pause).await;
        }
        self.more = true;
        Ok(false)
    }

    /// Whether a kind is due in this pass.
    fn is_due(&mut self, kind: PruneKind) -> bool {
        let now = self.deps.clock.monotonic();
        let rests =
            self.troubles.0.get(&kind).is_some_and(|at| now.saturating_duration_since(*at) < self.settings.interval);
        if rests {
            self.failed = true;
        } else {
            self.troubles.0.remove(&kind);
        }
        !rests
    }

    /// The result of an operation; `None` when it failed. The other kinds then go on, except after a lost lease.
    fn went<T>(&mut self, kind: PruneKind, came: PortResult<T>) -> Result<Option<T>, Fenced> {
        match came {
            Ok(value) => Ok(Some(value)),
            Err(PortError::Fenced) => Err(Fenced),
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                self.failed = true;
                self.troubles.0.insert(kind, self.deps.clock.monotonic());
                tracing::warn!(%error, kind = kind.as_str(), "a step of pruning lineage failed; a later pass tries again");
                Ok(None)
            }
        }
    }

    /// Renews the lease when a part of its time has passed.
    async fn keep_lease(&mut self) -> PortResult<()> {
        let now = self.deps.clock.monotonic();
        if now.saturating_duration_since(self.renewed) < self.settings.lease_ttl / RENEW_AFTER {
            return Ok(());
        }
        let Self { deps, settings, .. } = self;
        match deps.leases.acquire(LeasedTask::PruneLineage, deps.holder, settings.lease_ttl).await? {
            Some(lease) => {
                self.lease = lease;
                self.renewed = now;
                Ok(())
            }
            None => Err(PortError::Fenced),
        }
    }
}

/// The moment `age` before `now`, but not before 1970.
fn since(now: Timestamp, age: Duration) -> Timestamp {
    before(now, age).max(Timestamp::UNIX_EPOCH)
}

fn days_after(day: Date, days: i64) -> Option<Date> {
    day.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}
