//! `Janitor`: removes expired data.
//!
//! A pass is a sequence of small bounded steps with a pause between them; it never holds a lock or a thread for long, and a
//! step that fails does not keep the others from running. The next pass is armed when one ends, so passes never overlap.
//! Any number of instances may run a Janitor at once: every step skips rows that another step holds.
//!
//! Irreversible steps use a time that [`ClockWatch`] has proven, and wait while there is none. The ledger's clock and this node's
//! own ([`NodeEpochState::silent`]) decide that an instance is dead, and partitions for coming months may be made too early, so these two
//! steps do not wait.

mod orphans;
mod troubles;

use std::{future::Future, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};
use jiff::Timestamp;

use crate::{
    clock::{Clock, before, watch::ClockWatch},
    content::resumable,
    model::{LONGEST_OFFER, LostLease},
    node::change_follower,
    ports::{
        BlobTrash, Changes, ContentIndex, GovernancePolicies, Installations, Ledger, PortResult, ResumableUploads,
        Upkeep, UploadParts,
    },
    quota::node_epoch::NodeEpochState,
    supervision::Supervised,
};

pub use orphans::{Orphans, Round};
use troubles::Troubles;

/// Steps of one kind in one pass. The rest waits for the next pass, so that one kind cannot starve the others.
const STEPS_PER_PASS: usize = 20;

/// Between two steps, so that foreground work comes first.
const PAUSE: Duration = Duration::from_millis(10);

/// Bounds and times of the Janitor.
#[derive(Debug, Clone, Copy)]
pub struct JanitorSettings {
    /// From the end of a pass to the next one.
    pub interval: Duration,
    /// Rows or files per step.
    pub step: u32,
    pub lost_lease: LostLease,
    /// Remains of uploads, announcements, and blobs unknown to the index are removed at this age: longer than any upload.
    pub temporary_age: Duration,
    /// How long a blob unknown to the index stays in the trash before it is removed for good.
    pub trash_ttl: Duration,
    /// The share of the blobs of one step that may go to the trash without an operator's confirmation.
    pub orphan_share: f64,
    /// How long windows and their usage rows are kept after the window's end.
    pub window_retention: Duration,
    /// How long the keys that mark clients are kept after their day.
    pub client_key_retention: Duration,
    /// How long runs of governance policies, and replaced policy versions, are kept.
    pub policy_retention: Duration,
    /// Months for which partitions are made ahead.
    pub months_ahead: u32,
}

/// The data that the Janitor works on.
#[derive(Clone)]
pub struct JanitorDeps {
    pub ledger: Arc<dyn Ledger>,
    pub upkeep: Arc<dyn Upkeep>,
    pub index: Arc<dyn ContentIndex>,
    pub changes: Arc<dyn Changes>,
    pub policies: Arc<dyn GovernancePolicies>,
    pub trash: Arc<dyn BlobTrash>,
    pub resumable: Arc<dyn ResumableUploads>,
    pub upload_parts: Arc<dyn UploadParts>,
    pub installations: Arc<dyn Installations>,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<ClockWatch>,
}

/// What one pass did, or in a dry run would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassReport {
    pub leases_reclaimed: u64,
    pub bytes_reclaimed: u64,
    /// Those of the released leases that were not charged although lost leases are charged: no crash explains their loss.
    pub leases_spared: u64,
    pub bytes_spared: u64,
    pub receipts_expired: u64,
    pub receipts_restored: u64,
    pub windows_pruned: u64,
    /// Partitions of usage that were dropped.
    pub partitions_dropped: u64,
    pub client_keys_forgotten: u64,
    pub prices_forgotten: u64,
    pub nodes_forgotten: u64,
    pub partitions_made: u64,
    pub changes_forgotten: u64,
    pub policy_runs_forgotten: u64,
    pub policy_versions_forgotten: u64,
    pub announcements_withdrawn: u64,
    /// Resumable uploads to which nothing was added for their time.
    pub uploads_expired: u64,
    /// Parts of resumable uploads that no upload counts.
    pub upload_parts: u64,
    pub temporary_files: u64,
    pub temporary_bytes: u64,
    /// Blobs unknown to the index that went to the trash.
    pub orphans_trashed: u64,
    /// Blobs unknown to the index that were left alone: too many at once, or older than the index.
    pub orphans_held: u64,
    pub trash_recovered: u64,
    /// Blobs removed for good after their time in the trash.
    pub trash_removed: u64,
    pub trash_removed_bytes: u64,
    /// Unfinished uploads that the storage refuses to remove.
    pub uploads_refused: u64,
    pub failures: u64,
}

/// Receives each pass's report.
pub type Observer = Arc<dyn Fn(&PassReport) + Send + Sync>;

/// Runs one pass for the node with this `life`. The search for orphans goes on where the last pass of this round stopped.
pub async fn pass(
    deps: &JanitorDeps,
    settings: &JanitorSettings,
    epoch_state: &NodeEpochState,
    round: &mut Round,
) -> PassReport {
    let mut report = PassReport::default();
    let now = deps.clock.now();
    let step = settings.step;

    let made = deps.upkeep.prepare(now, settings.months_ahead).await;
    report.partitions_made = report.kept(&mut round.troubles, "prepare", made);

    for _ in 0..STEPS_PER_PASS {
        let (by, silent) = (epoch_state.current(), epoch_state.silent(deps.clock.monotonic()));
        let reclaimed = deps.ledger.reclaim(by, &silent, settings.lost_lease, now, step).await;
        let reclaimed = report.kept(&mut round.troubles, "reclaim", reclaimed);
        report.leases_reclaimed += reclaimed.leases;
        report.bytes_reclaimed += reclaimed.credit.bytes;
        report.leases_spared += reclaimed.spared_leases;
        report.bytes_spared += reclaimed.spared.bytes;
        if !reclaimed.more {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }

    if report.leases_spared > 0 {
        tracing::warn!(
            leases = report.leases_spared,
            bytes = report.bytes_spared,
            "leases were lost to a process of the same identity or to a restore; this node releases them and charges no receipt"
        );
    }

    let proven = deps.watch.proven().await;
    if let Some(now) = report.kept(&mut round.troubles, "prove the time", proven) {
        remove(deps, settings, round, now, &mut report).await;
    }
    report
}

/// The irreversible steps, as of a proven time.
async fn remove(
    deps: &JanitorDeps,
    settings: &JanitorSettings,
    round: &mut Round,
    now: Timestamp,
    report: &mut PassReport,
) {
    let step = settings.step;
    let old = before(now, settings.temporary_age);
    // Receipts that a fast clock has expired are restored.
    report.receipts_restored =
        report.repeat(&mut round.troubles, "restore", step, || deps.upkeep.restore_receipts(now, step)).await;
    report.receipts_expired =
        report.repeat(&mut round.troubles, "expire", step, || deps.upkeep.expire_receipts(now, step)).await;
    let retention = before(now, settings.window_retention);
    report.windows_pruned =
        report.repeat(&mut round.troubles, "prune windows", step, || deps.upkeep.prune_windows(retention, step)).await;
    report.partitions_dropped =
        report.repeat(&mut round.troubles, "drop usage", 1, || deps.upkeep.drop_usage(retention)).await;
    let over = before(now, settings.client_key_retention);
    let forgotten = deps.upkeep.forget_client_keys(over).await;
    report.client_keys_forgotten = report.kept(&mut round.troubles, "forget client keys", forgotten);
    let raised = before(now, LONGEST_OFFER * 2);
    report.prices_forgotten =
        report.repeat(&mut round.troubles, "forget prices", step, || deps.upkeep.forget_prices(raised, step)).await;
    report.nodes_forgotten =
        report.repeat(&mut round.troubles, "prune nodes", step, || deps.upkeep.prune_nodes(retention, step)).await;
    let kept = before(now, change_follower::KEPT);
    report.changes_forgotten =
        report.repeat(&mut round.troubles, "forget changes", step, || deps.changes.forget_changes(kept, step)).await;
    let judged = before(now, settings.policy_retention);
    report.policy_runs_forgotten = report
        .repeat(&mut round.troubles, "forget policy runs", step, || deps.policies.forget_policy_runs(judged, step))
        .await;
    // After the runs that refer to them.
    report.policy_versions_forgotten = report
        .repeat(&mut round.troubles, "forget policy versions", step, || {
            deps.policies.forget_policy_versions(judged, step)
        })
        .await;
    report.announcements_withdrawn =
        report.repeat(&mut round.troubles, "withdraw", step, || deps.index.withdraw_announcements(old, step)).await;

    report.uploads_expired =
        report.repeat(&mut round.troubles, "expire uploads", step, || deps.resumable.expire_uploads(now, step)).await;
    report.upload_parts =
        report.repeat(&mut round.troubles, "remove upload parts", step, || remove_parts(deps, old, step)).await;

    if !storage_time_is_right(deps, round, report).await {
        return;
    }
    let swept = deps.trash.sweep(settings.temporary_age, step as usize, false).await;
    let swept = report.kept(&mut round.troubles, "sweep", swept);
    report.temporary_files = swept.files;
    report.temporary_bytes = swept.bytes;

    report.uploads_refused = swept.refused;

    // Blobs that come back from the trash are known to the index, so they are no orphans.
    let looked = orphans::scan_trash(deps, settings, round, now, report).await;
    report.kept(&mut round.troubles, "trash", looked);
    let collected = orphans::collect(deps, settings, round, Orphans::Bounded, report).await;
    report.kept(&mut round.troubles, "orphans", collected);
}

/// Removes parts of resumable uploads that no upload counts.
async fn remove_parts(deps: &JanitorDeps, old: Timestamp, step: u32) -> PortResult<u64> {
    let condemned = deps.resumable.condemn_parts(old, step).await?;
    if condemned.is_empty() {
        return Ok(0);
    }
    resumable::remove(&*deps.upload_parts, &*deps.resumable, condemned).await
}

/// Whether the ages of what is stored can be relied on: the storage's own clock, if it has one, agrees with the proven time.
async fn storage_time_is_right(deps: &JanitorDeps, round: &mut Round, report: &mut PassReport) -> bool {
    let asked = deps.clock.now();
    let clocks = deps.trash.clocks().await.map(Some);
    let clocks = report.kept(&mut round.troubles, "read the storage's clock", clocks);
    clocks.is_some_and(|clocks| deps.watch.agrees_with(&clocks, asked, deps.clock.now()))
}

/// What the storage steps of a pass would remove. Changes nothing.
///
/// # Errors
/// The store's or the catalogue's.
pub async fn dry_run(deps: &JanitorDeps, settings: &JanitorSettings) -> PortResult<PassReport> {
    let swept = deps.trash.sweep(settings.temporary_age, usize::MAX, true).await?;
    let report = whole_scan(deps, settings, Orphans::Counted).await?;
    Ok(PassReport {
        temporary_files: swept.files,
        temporary_bytes: swept.bytes,
        uploads_refused: swept.refused,
        ..report
    })
}

/// Puts all blobs unknown to the index into the trash. An operator has confirmed this.
///
/// # Errors
/// The store's or the catalogue's.
pub async fn discard_orphans(deps: &JanitorDeps, settings: &JanitorSettings) -> PortResult<PassReport> {
    whole_scan(deps, settings, Orphans::Confirmed).await
}

async fn whole_scan(deps: &JanitorDeps, settings: &JanitorSettings, how: Orphans) -> PortResult<PassReport> {
    let (mut report, mut round) = (PassReport::default(), Round::default());
    loop {
        orphans::collect(deps, settings, &mut round, how, &mut report).await?;
        if round == Round::default() {
            return Ok(report);
        }
    }
}

impl PassReport {
    /// The value; on an error the default, with the failure recorded.
    fn kept<T: Default>(&mut self, troubles: &mut Troubles, step: &'static str, result: PortResult<T>) -> T {
        match result {
            Ok(value) => {
                troubles.succeeded(step);
                value
            }
            Err(error) => {
                self.failures += 1;
                troubles.failed(step, &error);
                T::default()
            }
        }
    }

    /// Repeats a step for as long as it does as much work as it may.
    async fn repeat<F>(
        &mut self,
        troubles: &mut Troubles,
        name: &'static str,
        step: u32,
        mut run: impl FnMut() -> F,
    ) -> u64
    where
        F: Future<Output = PortResult<u64>>,
    {
        let mut total = 0;
        for _ in 0..STEPS_PER_PASS {
            let done = run().await;
            let done = self.kept(troubles, name, done);
            total += done;
            if done < u64::from(step) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        total
    }
}

/// The parts of a Janitor.
#[derive(Clone)]
pub struct JanitorParts {
    pub deps: JanitorDeps,
    pub settings: JanitorSettings,
    /// The epoch of the node that it works for.
    pub epoch_state: Arc<NodeEpochState>,
    pub observer: Observer,
}

/// The actor that runs passes for ever.
pub struct Janitor {
    parts: JanitorParts,
    /// The state that the next pass continues with.
    round: Round,
}

impl Janitor {
    pub fn start(parts: JanitorParts, arbiter: &ArbiterHandle) -> Supervised<Self> {
        Supervised::start("Janitor", arbiter, move |_| Self { parts: parts.clone(), round: Round::default() })
    }

    fn run(&mut self, ctx: &mut Context<Self>) {
        let (deps, settings) = (self.parts.deps.clone(), self.parts.settings);
        let (epoch_state, mut round) = (Arc::clone(&self.parts.epoch_state), std::mem::take(&mut self.round));
        let passing = async move { (pass(&deps, &settings, &epoch_state, &mut round).await, round) };
        ctx.spawn(passing.into_actor(self).map(|(report, round), janitor, ctx| {
            janitor.round = round;
            (janitor.parts.observer)(&report);
            ctx.run_later(janitor.parts.settings.interval, Self::run);
        }));
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.run(ctx);
    }
}
