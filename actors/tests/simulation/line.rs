//! The line from one process to the database and to the other processes. When the process is dead or stands still, nothing passes.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{NodeId, TimelineId},
    model::{Credit, LeaseSizing, LostLease, NewTimeline, NodeEpoch, Timeline, UsageRow},
    ports::{
        Closed, EpochStanding, InvalidationBus, Invalidations, Ledger, PortError, PortResult, Pulse, Reclaimed, Refill,
        RefillRequest, SettleBatch, Settled, Tag, Timelines,
    },
};
use tokio::sync::{Notify, broadcast};

use super::{
    network::Fate,
    process::TTL,
    world::{TIMEOUT, World},
};

/// Whether the code of a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    Runs,
    StandsStill,
    Dead,
}

pub(crate) struct Line {
    world: Arc<World>,
    index: usize,
    running: Mutex<Running>,
    changed: Notify,
    cut_until: Mutex<Option<tokio::time::Instant>>,
    tags: broadcast::Sender<Tag>,
}

impl Line {
    pub(crate) fn new(world: Arc<World>, index: usize) -> Self {
        Self {
            world,
            index,
            running: Mutex::new(Running::Runs),
            changed: Notify::new(),
            cut_until: Mutex::default(),
            tags: broadcast::Sender::new(1),
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.running() == Running::Dead
    }

    pub(crate) fn stands_still(&self) -> bool {
        *self.running() == Running::StandsStill
    }

    pub(crate) fn kill(&self) {
        *self.running() = Running::Dead;
    }

    pub(crate) fn stop_for_a_while(&self, still: bool) {
        let to = if still { Running::StandsStill } else { Running::Runs };
        let mut running = self.running();
        if *running != Running::Dead {
            *running = to;
        }
        drop(running);
        // In the order in which they wait, so that a run can be repeated.
        self.changed.notify_waiters();
    }

    /// Waits until the process runs. Never returns in a dead one.
    pub(crate) async fn runs(&self) {
        loop {
            let changed = self.changed.notified();
            if *self.running() == Running::Runs {
                return;
            }
            changed.await;
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cut_for(&self, time: Duration) {
        *self.cut() = Some(tokio::time::Instant::now() + time);
    }

    pub(crate) fn mend(&self) {
        *self.cut() = None;
    }

    fn cut(&self) -> MutexGuard<'_, Option<tokio::time::Instant>> {
        self.cut_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut().is_some_and(|until| until > tokio::time::Instant::now())
    }

    /// Sends a statement. `work` makes it once for each time that it arrives.
    async fn send<T, W, F>(&self, name: String, work: W) -> PortResult<T>
    where
        T: Send + 'static,
        W: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = PortResult<T>> + Send + 'static,
    {
        self.runs().await;
        let (fate, world, index) = (self.world.fate(self.is_cut()), &self.world, self.index);
        let work = Arc::new(work);
        let once_more = |after: Option<Duration>| {
            let Some(after) = after else { return };
            let (world, work, name) = (Arc::clone(world), Arc::clone(&work), name.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let answer = world.carry_out(work()).await;
                world.note(|| format!("{index}: {name} arrives late: {}", told(&answer)));
            });
        };
        let lost = PortError::unavailable("the simulated ledger", "no answer in time");
        let answer = match fate {
            Fate::Lost { late } => {
                world.note(|| format!("{index}: {name} is lost"));
                once_more(late);
                tokio::time::sleep(TIMEOUT).await;
                Err(lost)
            }
            Fate::AnswerLost { there, again } => {
                tokio::time::sleep(there).await;
                let answer = world.carry_out(work()).await;
                world.note(|| format!("{index}: {name}: {}, and the answer is lost", told(&answer)));
                once_more(again);
                tokio::time::sleep(TIMEOUT).await;
                Err(lost)
            }
            Fate::Answered { there, back, again } => {
                tokio::time::sleep(there).await;
                let answer = world.carry_out(work()).await;
                world.note(|| format!("{index}: {name}: {}", told(&answer)));
                // A refill that was answered is not on its way any more: it is sent again only after an answer was lost.
                once_more(again.filter(|_| !name.starts_with("refill")));
                tokio::time::sleep(back).await;
                answer
            }
        };
        self.runs().await;
        answer
    }

    /// Reads from the database. A read changes nothing, so it cannot arrive late.
    async fn read<T>(&self, work: impl Future<Output = PortResult<T>> + Send) -> PortResult<T> {
        self.runs().await;
        if let Fate::Lost { .. } = self.world.fate(self.is_cut()) {
            tokio::time::sleep(TIMEOUT).await;
            self.runs().await;
            return Err(PortError::unavailable("the simulated ledger", "no answer in time"));
        }
        work.await
    }
}

fn told<T>(answer: &PortResult<T>) -> String {
    answer.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned())
}

#[async_trait]
impl Ledger for Line {
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        let (ledger, requests) = (Arc::clone(&self.world.ledger), Arc::<[RefillRequest]>::from(requests));
        let name = requests.iter().map(|request| {
            let RefillRequest { id, again, want } = request;
            format!(" {}{id} for {} and up to {}", if *again { "again " } else { "" }, want.need.bytes, want.want.bytes)
        });
        let name = format!("refill of {}{}", node.epoch % 1_000_000_007, name.collect::<String>());
        let work = move || {
            let (ledger, requests) = (Arc::clone(&ledger), Arc::clone(&requests));
            async move { ledger.refill(node, &requests, sizing, now).await }
        };
        self.send(name, work).await
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        let (ledger, batch) = (Arc::clone(&self.world.ledger), Arc::new(batch.clone()));
        let bytes = batch.rows.iter().map(|row| row.bytes_sent).sum::<u64>();
        let back = batch.releases.iter().map(|release| release.credit.bytes).sum::<u64>();
        let name = format!("batch {} of {bytes} sent and {back} given back", batch.sequence);
        let work = move || {
            let (ledger, batch) = (Arc::clone(&ledger), Arc::clone(&batch));
            async move { ledger.settle(&batch).await }
        };
        self.send(name, work).await
    }

    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
        self.read(self.world.ledger.set_aside(node, row, reason)).await
    }

    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
        let ledger = Arc::clone(&self.world.ledger);
        // The ledger and the other processes go by the true validity, whatever this process believes.
        let ttl = ttl.min(TTL);
        let work = move || {
            let ledger = Arc::clone(&ledger);
            async move { ledger.heartbeat(node, ttl).await }
        };
        self.send(format!("heartbeat of {}", node.epoch % 1_000_000_007), work).await
    }

    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>> {
        self.read(self.world.ledger.standing(node)).await
    }

    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()> {
        let ledger = Arc::clone(&self.world.ledger);
        let work = move || {
            let ledger = Arc::clone(&ledger);
            async move { ledger.declare_dead(node).await }
        };
        self.send("declare its last epoch dead".to_owned(), work).await
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        self.read(self.world.ledger.pulses()).await
    }

    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit> {
        self.read(Ledger::leased(&*self.world.ledger, node)).await
    }

    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
        self.read(self.world.ledger.note_unknown(node, unknown)).await
    }

    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        now: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed> {
        let (world, silent) = (Arc::clone(&self.world), Arc::<[Pulse]>::from(silent));
        let name = format!("reclaim from {} silent epochs", silent.len());
        let work = move || {
            let (world, silent) = (Arc::clone(&world), Arc::clone(&silent));
            async move {
                let reclaimed = world.ledger.reclaim(by, &silent, mode, now, limit).await?;
                let away = if mode == LostLease::Release { reclaimed.credit } else { reclaimed.spared };
                world.accounts(|accounts| accounts.gives_away(away));
                if reclaimed.leases > 0 {
                    world.note(|| format!("{} leases of {:?} are reclaimed", reclaimed.leases, reclaimed.credit));
                }
                Ok(reclaimed)
            }
        };
        self.send(name, work).await
    }

    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
        let ledger = Arc::clone(&self.world.ledger);
        let work = move || {
            let ledger = Arc::clone(&ledger);
            async move { ledger.close(node, limit).await }
        };
        self.send(format!("close {}", node.epoch % 1_000_000_007), work).await
    }
}

#[async_trait]
impl Timelines for Line {
    async fn timeline(&self) -> PortResult<Timeline> {
        self.read(self.world.ledger.timeline()).await
    }

    async fn begin_timeline(&self, after: TimelineId, reason: &str) -> PortResult<NewTimeline> {
        self.read(self.world.ledger.begin_timeline(after, reason)).await
    }
}

#[async_trait]
impl InvalidationBus for Line {
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()> {
        self.runs().await;
        tags.iter().for_each(|tag| self.world.publish(self.index, tag));
        Ok(())
    }

    fn invalidations(&self) -> Invalidations {
        self.tags.subscribe()
    }
}
