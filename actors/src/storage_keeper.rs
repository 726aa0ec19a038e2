//! `StorageKeeper`: looks after stored content in the background.
//!
//! | what | by which instance | when |
//! |---|---|---|
//! | walk over all content and verify it | one at a time | a lap begins `every` so often |
//! | verify what a reader found damaged | the reader's | at once |
//! | move what is not used to colder tiers | one at a time | a lap a day, where ages are configured |
//! | end moves that were left behind, remove the copies that moves have left | one at a time | all the time |
//! | look again at what is in quarantine | the same, beside that | every [`RECHECK_EVERY`] |
//! | tell on which day content was used, forget old looks | each | all the time |
//!
//! What one instance does at a time is a task in the database, which a node has for [`TTL`] and keeps while it lives. Where a lap is
//! stands there too, so after a crash another instance goes on where this one was, but for the contents since the last
//! [`SAVE_EVERY`].
//!
//! **Bound.** One content at a time for each of these, rows in steps of [`STEP`]. What nobody waits for is read at the configured pace,
//! what a reader came upon as fast as the storage gives. **When the database or the store does not answer**, it is asked again after a
//! pause; nothing is taken for verified that was not, and what is wrong with one content holds up no other.
//!
//! Copies that moves have left, old looks, and content that goes to a colder tier by its age wait while the time cannot be relied on.

mod moves;

use std::{sync::Arc, time::Duration};

use actix::{Actor, Addr, ArbiterHandle, AsyncContext as _, Context, WrapFuture as _};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    clock::{Clock, before},
    clock_watch::ClockWatch,
    content_store::ContentStore,
    ids::NodeId,
    last_uses::LastUses,
    model::{StorageTask, StoredContent, TaskProgress, Tier, VerificationKind},
    mover::{Begun, MoveError, Mover},
    pacer::Pacer,
    ports::{PortError, PortResult, StorageRecords},
    verifier::Verifier,
};

/// A task is free again when its node was silent for so long.
const TTL: Duration = Duration::from_secs(60);

/// How often a node shows that it is at its task.
const KEEP_EVERY: Duration = Duration::from_secs(15);

/// How often it is put down how far a lap is.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Rows in one statement.
const STEP: u32 = 500;

/// After something did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Attempts at one content before a lap goes on without it.
const ATTEMPTS: u32 = 3;

/// How often what is in quarantine is looked at again: somebody may have put it right behind the node's back, or the storage
/// answered wrongly for a while.
const RECHECK_EVERY: Duration = Duration::from_secs(600);

/// A lap over the ages of all content begins no more often: they are known to the day.
const LIFECYCLE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Bounds and times of the keeper.
#[derive(Debug, Clone, Copy)]
pub struct KeeperSettings {
    /// How often there is a look at what is due.
    pub interval: Duration,
    /// Bytes a second that the walk reads; `None`: there is no walk, and what readers find damaged is not looked at.
    pub verify_rate: Option<u64>,
    /// From the beginning of a lap of the walk to that of the next one.
    pub verify_every: Duration,
    /// Contents that an instance tells to be missing within an hour, at most.
    pub missing_per_hour: u32,
    /// How long looks are kept.
    pub retention: Duration,
    /// Content that was not used for so long goes to the tier; `None`: none does.
    pub warm_after: Option<Duration>,
    pub cold_after: Option<Duration>,
    /// Bytes a second that moves read which nobody asked for.
    pub move_rate: u64,
    /// How long copies stay that readers were sent away from.
    pub grace: Duration,
}

/// What the keeper works on.
#[derive(Clone)]
pub struct KeeperDeps {
    pub records: Arc<dyn StorageRecords>,
    pub content: ContentStore,
    pub verifier: Verifier,
    pub mover: Mover,
    pub uses: Arc<LastUses>,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<ClockWatch>,
    pub node: NodeId,
}

/// The actor that looks after stored content for ever.
pub struct StorageKeeper {
    deps: KeeperDeps,
    settings: KeeperSettings,
}

impl StorageKeeper {
    pub fn start(deps: KeeperDeps, settings: KeeperSettings, arbiter: &ArbiterHandle) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, move |_| Self { deps, settings })
    }
}

impl Actor for StorageKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let keeper = Keeper::new(self.deps.clone(), self.settings);
        let interval = self.settings.interval;
        if self.settings.verify_rate.is_some() {
            ctx.spawn(keeper.clone().for_ever("the walk", interval, Keeper::walk).into_actor(self));
            ctx.spawn(keeper.clone().for_ever("the quarantine", RECHECK_EVERY, Keeper::recheck).into_actor(self));
            ctx.spawn(keeper.clone().suspects().into_actor(self));
        }
        if self.settings.warm_after.is_some() || self.settings.cold_after.is_some() {
            ctx.spawn(keeper.clone().for_ever("the lifecycle", interval, Keeper::lifecycle).into_actor(self));
        }
        ctx.spawn(keeper.clone().for_ever("moves", interval, Keeper::end_moves).into_actor(self));
        ctx.spawn(keeper.for_ever("records", interval, Keeper::tidy).into_actor(self));
    }
}

/// The work of the actor, round by round.
#[derive(Clone)]
pub struct Keeper {
    deps: KeeperDeps,
    settings: KeeperSettings,
    verify_pace: Option<Arc<Pacer>>,
    move_pace: Arc<Pacer>,
}

impl Keeper {
    pub fn new(deps: KeeperDeps, settings: KeeperSettings) -> Self {
        let now = deps.clock.monotonic();
        let verify_pace = settings.verify_rate.map(|rate| Arc::new(Pacer::at_rate(rate, now)));
        let move_pace = Arc::new(Pacer::at_rate(settings.move_rate, now));
        Self { deps, settings, verify_pace, move_pace }
    }

    async fn for_ever(self, what: &'static str, every: Duration, round: impl AsyncFn(&Self) -> PortResult<()>) {
        let mut silent = false;
        loop {
            match round(&self).await {
                Ok(()) => silent = false,
                // Said once: the next rounds would only say the same.
                Err(error) if !std::mem::replace(&mut silent, true) => {
                    tracing::warn!(what, %error, "work on stored content is held up; it is tried again");
                }
                Err(_) => {}
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Goes on with the walk over all content, if it is this node's to do and a lap is due.
    ///
    /// # Errors
    /// The database's. A content that cannot be looked at is passed over after some attempts, and counted.
    pub async fn walk(&self) -> PortResult<()> {
        let lap = self.lap(StorageTask::Walk, self.settings.verify_every, async |content| {
            for attempt in 1..=ATTEMPTS {
                let look = self.deps.verifier.verify_content(content, VerificationKind::Walk, self.verify_pace.as_deref());
                match look.await {
                    Ok(_) => return Ok(()),
                    Err(error) => {
                        tracing::warn!(content_hash = %content.content_hash, %error, attempt, "content was not verified");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            self.deps.verifier.failed();
            Ok(())
        });
        lap.await
    }

    /// Looks at what readers found damaged, as they find it.
    async fn suspects(self) {
        loop {
            let hash = self.deps.content.next_suspect().await;
            let look = self.deps.verifier.verify(hash, VerificationKind::Read, None);
            if let Err(error) = look.await {
                tracing::warn!(content_hash = %hash, %error, "damage that a reader found was not looked at");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Goes on with a lap over the ages of all content, and moves what is due.
    ///
    /// # Errors
    /// The database's. What cannot be moved is tried again with the next lap.
    pub async fn lifecycle(&self) -> PortResult<()> {
        if self.deps.watch.proven().await?.is_none() {
            return Ok(());
        }
        let lap = self.lap(StorageTask::Lifecycle, LIFECYCLE_EVERY, async |content| {
            let Some(to) = self.wanted_tier(&content) else { return Ok(()) };
            if self.deps.content.quarantine().holds(content.content_hash) {
                return Ok(());
            }
            if let Err(error) = self.move_to(&content, to).await {
                tracing::warn!(content_hash = %content.content_hash, %to, %error, "content was not moved");
                if matches!(error, MoveError::Port(_)) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Ok(())
        });
        lap.await
    }

    async fn move_to(&self, content: &StoredContent, to: Tier) -> Result<(), MoveError> {
        match self.deps.mover.begin(content.content_hash, to).await? {
            Begun::Ours(at) => self.deps.mover.carry_out(&at, Some(&self.move_pace)).await,
            Begun::Known(_) => Ok(()),
        }
    }

    /// The colder tier that a content should be in by its last use; `None` where it is.
    fn wanted_tier(&self, content: &StoredContent) -> Option<Tier> {
        // A day is known as its first moment: a content counts as used until its end.
        let day = Duration::from_secs(24 * 3600);
        let used = content.used_on.map(|used_on| used_on.saturating_add(day).unwrap_or(Timestamp::MAX));
        let last = used.unwrap_or(content.stored_at).max(content.stored_at);
        let age = Duration::try_from(self.deps.clock.now().duration_since(last)).unwrap_or_default();
        let due = |after: Option<Duration>| after.is_some_and(|after| age >= after);
        let wanted = if due(self.settings.cold_after) {
            Tier::Cold
        } else if due(self.settings.warm_after) {
            Tier::Warm
        } else {
            Tier::Hot
        };
        (wanted > content.tier).then_some(wanted)
    }

    /// Tells on which days content was used, and forgets old looks.
    ///
    /// # Errors
    /// The database's.
    pub async fn tidy(&self) -> PortResult<()> {
        flush_uses(&self.deps.uses, &*self.deps.records).await?;
        let Some(now) = self.deps.watch.proven().await? else { return Ok(()) };
        let old = before(now, self.settings.retention);
        self.deps.records.forget_verifications(old, STEP).await.map(drop)
    }

    /// Goes on with a lap over all content, if it is this node's to do and one is due, until its end or until something is wrong.
    async fn lap(
        &self,
        task: StorageTask,
        every: Duration,
        each: impl AsyncFn(StoredContent) -> PortResult<()>,
    ) -> PortResult<()> {
        let (mut progress, is_ours) = self.claim(task).await?;
        if !is_ours {
            return Ok(());
        }
        if progress.after.is_none() {
            let now = self.deps.clock.now();
            if progress.lap_began_at.is_some_and(|began| began > before(now, every)) {
                return Ok(());
            }
            progress.lap_began_at = Some(crate::clock::to_micros(now));
        }
        self.while_keeping(task, self.go_on(task, progress, each)).await
    }

    async fn go_on(
        &self,
        task: StorageTask,
        mut progress: TaskProgress,
        each: impl AsyncFn(StoredContent) -> PortResult<()>,
    ) -> PortResult<()> {
        let Self { deps, .. } = self;
        let mut saved_at = Instant::now();
        loop {
            let page = deps.records.stored_after(progress.after, STEP).await?;
            let is_last = page.len() < STEP as usize;
            for content in page {
                each(content).await?;
                progress.after = Some(content.content_hash);
                if saved_at.elapsed() >= SAVE_EVERY {
                    if !deps.records.advance_task(task, deps.node, &progress).await? {
                        return Ok(());
                    }
                    saved_at = Instant::now();
                }
            }
            if is_last {
                progress = TaskProgress { after: None, whole_lap_began_at: progress.lap_began_at, ..progress };
                deps.records.advance_task(task, deps.node, &progress).await?;
                self.show(task, &progress);
                return Ok(());
            }
        }
    }

    /// Takes a task or keeps it; how far it is, and whether it is this node's.
    async fn claim(&self, task: StorageTask) -> PortResult<(TaskProgress, bool)> {
        let now = self.deps.clock.now();
        let claim = self.deps.records.claim_task(task, self.deps.node, now, TTL).await?;
        self.show(task, &claim.progress);
        Ok((claim.progress, claim.is_ours))
    }

    fn show(&self, task: StorageTask, progress: &TaskProgress) {
        if task == StorageTask::Walk {
            self.deps.verifier.walked(progress.whole_lap_began_at);
        }
    }

    /// Does work and keeps the task meanwhile. Work ends when the task is another node's by now.
    async fn while_keeping(&self, task: StorageTask, work: impl Future<Output = PortResult<()>>) -> PortResult<()> {
        let kept = async {
            loop {
                tokio::time::sleep(KEEP_EVERY).await;
                match self.claim(task).await {
                    Ok((_, true)) => {}
                    Ok((_, false)) => return,
                    Err(error) => tracing::debug!(%task, %error, "a task could not be kept; it goes on"),
                }
            }
        };
        tokio::select! {
            done = work => done,
            () = kept => Ok(()),
        }
    }
}

/// Tells the database all that it does not know of uses.
///
/// # Errors
/// The database's; what it did not take is told with the next call.
pub async fn flush_uses(uses: &LastUses, records: &dyn StorageRecords) -> PortResult<()> {
    while let Some((day, hashes)) = uses.take(STEP as usize) {
        if let Err(error) = records.note_uses(&hashes, day).await {
            uses.put_back(day, hashes);
            return Err::<(), PortError>(error);
        }
    }
    Ok(())
}
