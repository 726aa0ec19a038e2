//! `StorageMaintenance`: looks after stored content in the background.
//!
//! | task | instances | when |
//! |---|---|---|
//! | walk over all content and verify it | one at a time | one lap each `every` |
//! | verify content that a reader found damaged | the reader's | at once |
//! | move unused content to colder tiers | one at a time | a lap a day, where ages are configured |
//! | finish abandoned moves, remove old copies after moves | one at a time | all the time |
//! | verify content in quarantine again | the same, in addition | every [`RECHECK_EVERY`] |
//! | record the day of content's last use, forget old verifications | each | all the time |
//!
//! Work for one instance at a time is a task with a lease in the database. A node acquires the lease for [`TTL`], by the
//! database's clock, and renews it while it lives. The progress of a lap is stored there too, under the lease, so after a
//! crash another instance continues it, at most [`SAVE_EVERY`] behind.
//!
//! **Bound.** One content at a time for each task; rows in steps of [`STEP`]. Background reads have the configured
//! rate; content that a reader found damaged is read as fast as the storage allows.
//!
//! **When the database or the store does not answer**, it is asked again after a pause. Content that was not verified
//! never counts as verified, and a fault of one content delays no other.
//!
//! While the time is unreliable, three things wait: removal of old copies, of old verifications, and moves to a colder
//! tier by age.

mod moves;

use std::{sync::Arc, time::Duration};

use actix::{Actor, ArbiterHandle, AsyncContext as _, Context, WrapFuture as _};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    clock::{Clock, before, watch::ClockWatch},
    content::reader::ContentStore,
    flow::token_bucket::TokenBucket,
    ids::NodeId,
    model::{StorageTask, StorageTier, StoredContent, TaskProgress, VerificationKind},
    ports::{PortError, PortResult, StorageRecords, StoredContents, TaskLease},
    storage::{
        last_access::LastAccess,
        mover::{MoveError, MoveStart, Mover},
        verifier::Verifier,
    },
    supervision::Supervised,
};

/// A task is free again after its node was silent for this long.
const TTL: Duration = Duration::from_secs(60);

/// How often a node renews its task.
const KEEP_EVERY: Duration = Duration::from_secs(15);

/// How often the progress of a lap is stored.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Rows in one statement.
const STEP: u32 = 500;

/// The wait after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// Attempts at one content before a lap skips it.
const ATTEMPTS: u32 = 3;

/// How often content in quarantine is verified again: an operator may have repaired it outside the node, or the storage
/// may have answered wrongly for a while.
const RECHECK_EVERY: Duration = Duration::from_secs(600);

/// The shortest time between two laps over the ages of all content: ages are known to the day.
const LIFECYCLE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Bounds and times of maintenance.
#[derive(Debug, Clone, Copy)]
pub struct MaintenanceSettings {
    /// How often due work is looked for.
    pub interval: Duration,
    /// Bytes a second that the walk reads; `None`: there is no walk, and content that readers find damaged is not verified.
    pub verify_rate: Option<u64>,
    /// The time between the starts of two laps of the walk.
    pub verify_every: Duration,
    /// The most contents that an instance reports as missing within an hour.
    pub missing_per_hour: u32,
    /// How long verifications are kept.
    pub retention: Duration,
    /// Content unused for this long goes to the tier; `None`: no content does.
    pub warm_after: Option<Duration>,
    pub cold_after: Option<Duration>,
    /// Bytes a second that moves read, unless a client asked for them.
    pub move_rate: u64,
    /// How long old copies stay after readers were switched to the new one.
    pub grace: Duration,
}

/// Dependencies of maintenance.
#[derive(Clone)]
pub struct MaintenanceDeps {
    pub records: StorageRecords,
    pub content: ContentStore,
    pub verifier: Verifier,
    pub mover: Mover,
    pub uses: Arc<LastAccess>,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<ClockWatch>,
    pub node: NodeId,
}

/// The actor that maintains stored content for ever.
pub struct StorageMaintenance {
    deps: MaintenanceDeps,
    settings: MaintenanceSettings,
}

impl StorageMaintenance {
    pub fn start(deps: MaintenanceDeps, settings: MaintenanceSettings, arbiter: &ArbiterHandle) -> Supervised<Self> {
        Supervised::start("storage maintenance", arbiter, move |_| Self { deps: deps.clone(), settings })
    }
}

impl Actor for StorageMaintenance {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let jobs = MaintenanceJobs::new(self.deps.clone(), self.settings);
        let interval = self.settings.interval;
        if self.settings.verify_rate.is_some() {
            ctx.spawn(jobs.clone().run_forever("the walk", interval, MaintenanceJobs::walk).into_actor(self));
            ctx.spawn(
                jobs.clone().run_forever("the quarantine", RECHECK_EVERY, MaintenanceJobs::recheck).into_actor(self),
            );
            ctx.spawn(jobs.clone().suspects().into_actor(self));
        }
        if self.settings.warm_after.is_some() || self.settings.cold_after.is_some() {
            ctx.spawn(jobs.clone().run_forever("the lifecycle", interval, MaintenanceJobs::lifecycle).into_actor(self));
        }
        ctx.spawn(jobs.clone().run_forever("moves", interval, MaintenanceJobs::end_moves).into_actor(self));
        ctx.spawn(jobs.run_forever("records", interval, MaintenanceJobs::flush_and_prune).into_actor(self));
    }
}

/// The work of the actor, round by round.
#[derive(Clone)]
pub struct MaintenanceJobs {
    deps: MaintenanceDeps,
    settings: MaintenanceSettings,
    verify_pace: Option<Arc<TokenBucket>>,
    move_pace: Arc<TokenBucket>,
}

impl MaintenanceJobs {
    pub fn new(deps: MaintenanceDeps, settings: MaintenanceSettings) -> Self {
        let now = deps.clock.monotonic();
        let verify_pace = settings.verify_rate.map(|rate| Arc::new(TokenBucket::at_rate(rate, now)));
        let move_pace = Arc::new(TokenBucket::at_rate(settings.move_rate, now));
        Self { deps, settings, verify_pace, move_pace }
    }

    async fn run_forever(self, what: &'static str, every: Duration, round: impl AsyncFn(&Self) -> PortResult<()>) {
        let mut silent = false;
        loop {
            match round(&self).await {
                Ok(()) => silent = false,
                // Logged once: the next rounds would repeat it.
                Err(error) if !std::mem::replace(&mut silent, true) => {
                    tracing::warn!(what, %error, "work on stored content failed; this node tries again");
                }
                Err(_) => {}
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Continues the walk over all content, if this node has the task and a lap is due.
    ///
    /// # Errors
    /// The database's own. A content that cannot be verified is skipped after some attempts, and counted.
    pub async fn walk(&self) -> PortResult<()> {
        let scan = self.scan(StorageTask::Walk, self.settings.verify_every, async |content| {
            for attempt in 1..=ATTEMPTS {
                let look = self.deps.verifier.verify_content(content, VerificationKind::Walk, self.verify_pace.as_deref());
                match look.await {
                    Ok(_) => return Ok(()),
                    Err(error) => {
                        tracing::warn!(content_hash = %content.content_hash, %error, attempt, "content could not be verified; after some attempts the walk goes on without it");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            self.deps.verifier.failed();
            Ok(())
        });
        scan.await
    }

    /// Verifies content that readers found damaged, as they find it.
    async fn suspects(self) {
        loop {
            let hash = self.deps.content.next_suspect().await;
            let look = self.deps.verifier.verify(hash, VerificationKind::Read, None);
            if let Err(error) = look.await {
                tracing::warn!(content_hash = %hash, %error, "content that a reader found damaged could not be verified; the walk reaches it later");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Continues a lap over the ages of all content, and moves content that is due.
    ///
    /// # Errors
    /// The database's own. A content that cannot be moved is tried again in the next lap.
    pub async fn lifecycle(&self) -> PortResult<()> {
        if self.deps.watch.proven().await?.is_none() {
            return Ok(());
        }
        let scan = self.scan(StorageTask::Lifecycle, LIFECYCLE_EVERY, async |content| {
            let Some(to) = self.wanted_tier(&content) else { return Ok(()) };
            if self.deps.content.quarantine().holds(content.content_hash) {
                return Ok(());
            }
            if let Err(error) = self.move_to(&content, to).await {
                tracing::warn!(content_hash = %content.content_hash, %to, %error, "content was not moved to a colder tier; the next lap tries again");
                if matches!(error, MoveError::Port(_)) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Ok(())
        });
        scan.await
    }

    async fn move_to(&self, content: &StoredContent, to: StorageTier) -> Result<(), MoveError> {
        match self.deps.mover.begin(content.content_hash, to).await? {
            MoveStart::Ours(at) => self.deps.mover.carry_out(&at, Some(&self.move_pace)).await,
            MoveStart::Known(_) => Ok(()),
        }
    }

    /// The colder tier in which a content should be by its last use; `None` where it already is.
    fn wanted_tier(&self, content: &StoredContent) -> Option<StorageTier> {
        // A day is stored as its first moment: a content counts as used until the day's end.
        let day = Duration::from_secs(24 * 3600);
        let used = content.used_on.map(|used_on| used_on.saturating_add(day).unwrap_or(Timestamp::MAX));
        let last = used.unwrap_or(content.stored_at).max(content.stored_at);
        let age = Duration::try_from(self.deps.clock.now().duration_since(last)).unwrap_or_default();
        let due = |after: Option<Duration>| after.is_some_and(|after| age >= after);
        let wanted = if due(self.settings.cold_after) {
            StorageTier::Cold
        } else if due(self.settings.warm_after) {
            StorageTier::Warm
        } else {
            StorageTier::Hot
        };
        (wanted > content.tier).then_some(wanted)
    }

    /// Records the days on which content was used, and forgets old verifications.
    ///
    /// # Errors
    /// The database's own.
    pub async fn flush_and_prune(&self) -> PortResult<()> {
        flush_accesses(&self.deps.uses, &*self.deps.records.contents).await?;
        let Some(now) = self.deps.watch.proven().await? else { return Ok(()) };
        let old = before(now, self.settings.retention);
        self.deps.records.verifications.forget_verifications(old, STEP).await.map(drop)
    }

    /// Continues a lap over all content, if this node has the task and a lap is due, until its end or an error.
    async fn scan(
        &self,
        task: StorageTask,
        every: Duration,
        each: impl AsyncFn(StoredContent) -> PortResult<()>,
    ) -> PortResult<()> {
        let lease = self.lease(task).await?;
        let mut progress = self.deps.records.tasks.progress(task).await?;
        self.show(task, &progress);
        let Some(lease) = lease else { return Ok(()) };
        if progress.after.is_none() {
            let now = self.deps.clock.now();
            if progress.lap_began_at.is_some_and(|began| began > before(now, every)) {
                return Ok(());
            }
            progress.lap_began_at = Some(crate::clock::to_micros(now));
        }
        self.with_task_kept(task, self.resume_scan(task, lease, progress, each)).await
    }

    async fn resume_scan(
        &self,
        task: StorageTask,
        lease: TaskLease,
        mut progress: TaskProgress,
        each: impl AsyncFn(StoredContent) -> PortResult<()>,
    ) -> PortResult<()> {
        let Self { deps, .. } = self;
        let mut saved_at = Instant::now();
        loop {
            let page = deps.records.contents.stored_after(progress.after, STEP).await?;
            let is_last = page.len() < STEP as usize;
            for content in page {
                each(content).await?;
                progress.after = Some(content.content_hash);
                if saved_at.elapsed() >= SAVE_EVERY {
                    deps.records.tasks.save_progress(task, lease, &progress).await?;
                    saved_at = Instant::now();
                }
            }
            if is_last {
                progress = TaskProgress { after: None, whole_lap_began_at: progress.lap_began_at, ..progress };
                deps.records.tasks.save_progress(task, lease, &progress).await?;
                self.show(task, &progress);
                return Ok(());
            }
        }
    }

    /// Acquires or renews the lease of a task; `None` while another node has it.
    async fn lease(&self, task: StorageTask) -> PortResult<Option<TaskLease>> {
        self.deps.records.leases.acquire(task.into(), self.deps.node.as_uuid(), TTL).await
    }

    fn show(&self, task: StorageTask, progress: &TaskProgress) {
        if task == StorageTask::Walk {
            self.deps.verifier.walked(progress.whole_lap_began_at);
        }
    }

    /// Does work and renews the task meanwhile. The work ends when another node has the task.
    async fn with_task_kept(&self, task: StorageTask, work: impl Future<Output = PortResult<()>>) -> PortResult<()> {
        let kept = async {
            loop {
                tokio::time::sleep(KEEP_EVERY).await;
                match self.lease(task).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%task, %error, "the lease of a task could not be renewed; the work goes on");
                    }
                }
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = kept => Err(PortError::Fenced),
        };
        match done {
            Err(PortError::Fenced) => {
                tracing::warn!(%task, "this node lost the lease of a task on stored content; another instance goes on with it");
                Ok(())
            }
            done => done,
        }
    }
}

/// Writes all uses that the database does not have yet.
///
/// # Errors
/// The database's own; uses that it did not take are written with the next call.
pub async fn flush_accesses(uses: &LastAccess, contents: &dyn StoredContents) -> PortResult<()> {
    while let Some((day, hashes)) = uses.take(STEP as usize) {
        if let Err(error) = contents.note_accesses(&hashes, day).await {
            uses.put_back(day, hashes);
            return Err::<(), PortError>(error);
        }
    }
    Ok(())
}
