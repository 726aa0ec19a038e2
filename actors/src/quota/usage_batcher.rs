//! `UsageBatcher`: keeps usage rows until they are durably in the ledger.
//!
//! One batch is one transaction: rows, windows, leases and the node's watermark change together. One batch is in flight at a
//! time and keeps its (node, epoch, sequence) through every retry, so that a lost acknowledgement counts nothing twice.
//!
//! **Bound.** Each row carries a permit of the usage queue that its stream took before its first byte. Without a
//! permit, new streams are refused; running ones go on and always have room.
//!
//! **When the ledger is down**, the batch is retried with back-off until it is taken.
//!
//! **A row that the ledger can never take** is found by halving its batch, logged in full, counted, and set aside in
//! the database for an operator to decide about: nothing is dropped.
//!
//! **A crash loses** nothing that the [`UsageSpool`] holds: each stream is noted there before its first byte, and forgotten when its row
//! is durably in the ledger. The next start settles the rest ([`replay`](crate::quota::replay)).

mod pending;
mod settlement;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

pub use self::pending::RowPermit;
use self::{
    pending::{PendingBatch, PendingRow, UsageItem},
    settlement::{SettleOutcome, take},
};
use crate::{
    clock::Clock,
    flow::{
        admission::{Admission, AdmissionSnapshot, Permit},
        timings::Timings,
    },
    mailbox::{Mailbox, Posted},
    model::{Credit, UsageRow},
    ports::{Ledger, PortResult, Release, SettleBatch, UsageSpool},
    quota::{
        node_epoch::NodeEpochState,
        spooled_row::SpooledRow,
        usage_batch::{BatchLimits, UsageBatch},
        usage_inbox::{PutIn, UsageInbox},
    },
};

/// Bounds of the batcher.
#[derive(Debug, Clone, Copy)]
pub struct UsageSettings {
    pub limits: BatchLimits,
    /// Streams that may run, or wait for settlement, at a time.
    pub queue: u32,
}

/// Dependencies of the batcher.
pub struct UsageDeps {
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub epoch_state: Arc<NodeEpochState>,
    pub spool: Arc<dyn UsageSpool>,
}

/// The counters of the batcher.
#[derive(Debug, Default)]
pub struct UsageCounters {
    pub recorded: AtomicU64,
    /// Rows that are durably in the ledger.
    pub settled: AtomicU64,
    pub bytes_settled: AtomicU64,
    pub batches: AtomicU64,
    pub retries: AtomicU64,
    /// Rows that the ledger can never take, and that were set aside.
    pub set_aside: AtomicU64,
    /// Rows that could not even be set aside, or that came after the batcher was gone; must be 0.
    pub dropped: AtomicU64,
    /// From the sending of a batch to the ledger's last answer, retries included.
    pub flushes: Timings,
    /// From the end of the oldest stream of a batch to the sending of the batch.
    pub ages: Timings,
}

/// Has the batcher look into its inbox.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Look;

#[derive(actix::Message)]
#[rtype(result = "()")]
struct Flush {
    reply: oneshot::Sender<()>,
}

/// The handle of the batcher.
#[derive(Clone)]
pub struct UsageHandle {
    /// Shared, since a clone of an `Addr` allocates.
    addr: Arc<Addr<UsageBatcher>>,
    mailbox: Arc<Mailbox>,
    inbox: Arc<UsageInbox<UsageItem>>,
    admission: Admission,
    counters: Arc<UsageCounters>,
    clock: Arc<dyn Clock>,
    spool: Arc<dyn UsageSpool>,
}

impl UsageHandle {
    pub fn start(settings: UsageSettings, deps: UsageDeps, arbiter: &ArbiterHandle) -> Self {
        let counters = Arc::new(UsageCounters::default());
        let (spool, clock) = (Arc::clone(&deps.spool), Arc::clone(&deps.clock));
        let inbox = Arc::new(UsageInbox::new());
        let batcher = UsageBatcher::new(settings, deps, Arc::clone(&inbox), Arc::clone(&counters));
        let addr = UsageBatcher::start_in_arbiter(arbiter, |ctx| {
            ctx.set_mailbox_capacity(0);
            batcher
        });
        let (addr, mailbox) = (Arc::new(addr), Mailbox::of("usage batcher"));
        Self { addr, mailbox, inbox, admission: Admission::new("usage", settings.queue), counters, clock, spool }
    }

    /// A permit for one row, to be taken before a stream's first byte. `None` when the queue or the spool is full.
    pub fn admit(&self) -> Option<RowPermit> {
        if !self.spool.has_room() {
            return None;
        }
        let spooled = SpooledRow::new(Arc::clone(&self.spool));
        Some(RowPermit { queue: self.admission.try_admit(1)?, epoch: None, spooled })
    }

    /// A permit of the queue within `patience`, for a row that has its place in the spool already.
    pub(crate) async fn admit_left(&self, patience: Duration) -> Option<Permit> {
        self.admission.admit(1, patience).await
    }

    pub(crate) fn spool(&self) -> &Arc<dyn UsageSpool> {
        &self.spool
    }

    /// Takes over a row, of which `spent` came from a lease.
    pub fn record(&self, row: UsageRow, spent: Credit, mut permit: RowPermit) {
        permit.spooled.note_end(&row);
        self.counters.recorded.fetch_add(1, Relaxed);
        let since = self.clock.monotonic();
        self.put(UsageItem::Row(Box::new(PendingRow { row, since, spent, permit })));
    }

    fn put(&self, item: UsageItem) {
        match self.inbox.put(item) {
            PutIn::Kept => {}
            // A batcher that is gone has closed its inbox, or does so when it is dropped.
            PutIn::Tell => drop(self.tell(Look)),
            PutIn::Closed(item) => item.lose(&self.counters),
        }
    }

    /// Gives lease credit back with the next batch.
    pub fn release(&self, release: Release) {
        // If the batcher is gone, the lease is reclaimed with this node's epoch.
        self.put(UsageItem::Release(release));
    }

    /// Waits until the batcher runs, and all rows recorded so far are durably in the ledger; false when they are not
    /// within `patience`.
    pub async fn flush(&self, patience: Duration) -> bool {
        let (reply, done) = oneshot::channel();
        self.tell(Flush { reply }) && matches!(tokio::time::timeout(patience, done).await, Ok(Ok(())))
    }

    /// Sends the current items without waiting for more: a caller waits for a release among them.
    pub fn flush_now(&self) {
        // A flush without a waiter.
        let (reply, _) = oneshot::channel();
        self.tell(Flush { reply });
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }

    pub fn counters(&self) -> &UsageCounters {
        &self.counters
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub fn queue(&self) -> AdmissionSnapshot {
        self.admission.snapshot()
    }

    fn tell<M>(&self, message: M) -> bool
    where
        M: Message<Result = ()> + Send + 'static,
        UsageBatcher: Handler<Posted<M>>,
    {
        self.addr.try_send(self.mailbox.post(message)).is_ok()
    }
}

/// How many rows and releases came in, or were done: a flush compares the two.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    rows: u64,
    releases: u64,
}

pub struct UsageBatcher {
    deps: UsageDeps,
    counters: Arc<UsageCounters>,
    inbox: Arc<UsageInbox<UsageItem>>,
    /// Items that were just taken. Empty between two handlers; kept for its room.
    taken: Vec<UsageItem>,
    batch: UsageBatch<PendingRow>,
    /// Halves of a rejected batch; they go before the next batch.
    halves: VecDeque<PendingBatch>,
    in_flight: bool,
    sequence: i64,
    accepted: Progress,
    finished: Progress,
    /// Callers that wait until `finished` has reached the `accepted` of their arrival.
    waiters: VecDeque<(Progress, oneshot::Sender<()>)>,
    armed: bool,
}

impl UsageBatcher {
    fn new(
        settings: UsageSettings,
        deps: UsageDeps,
        inbox: Arc<UsageInbox<UsageItem>>,
        counters: Arc<UsageCounters>,
    ) -> Self {
        Self {
            deps,
            counters,
            inbox,
            taken: Vec::new(),
            batch: UsageBatch::new(settings.limits),
            halves: VecDeque::new(),
            in_flight: false,
            sequence: 0,
            accepted: Progress::default(),
            finished: Progress::default(),
            waiters: VecDeque::new(),
            armed: false,
        }
    }

    /// Takes all items out of the inbox.
    fn collect(&mut self) {
        self.inbox.take(&mut self.taken);
        if self.taken.is_empty() {
            return;
        }
        let now = self.deps.clock.monotonic();
        for item in self.taken.drain(..) {
            match item {
                UsageItem::Row(row) => {
                    self.accepted.rows += 1;
                    self.batch.push(*row, now);
                }
                UsageItem::Release(release) => {
                    self.accepted.releases += 1;
                    self.batch.release(release, now);
                }
            }
        }
    }

    /// Sends a batch if one is due; otherwise sets the timer for it. Without a batch in flight and without a timer, the batcher has
    /// nothing to do until it is told.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        loop {
            self.collect();
            self.answer_waiters();
            if self.in_flight {
                return;
            }
            if let Some(half) = self.halves.pop_front() {
                return self.send(half, ctx);
            }
            let now = self.deps.clock.monotonic();
            if self.batch.is_due(now) || (!self.waiters.is_empty() && !self.batch.is_empty()) {
                let (rows, releases) = self.batch.take(now);
                if let Some(oldest) = rows.first() {
                    self.counters.ages.record(now.saturating_duration_since(oldest.since));
                }
                let releases_until = if releases.is_empty() { 0 } else { self.accepted.releases };
                return self.send(PendingBatch { rows, releases, releases_until }, ctx);
            }
            let may_rest = match self.batch.due_at() {
                None => self.inbox.rest(),
                Some(due) => {
                    self.look_at(due, now, ctx);
                    self.inbox.wait_for(self.batch.room())
                }
            };
            if may_rest {
                return;
            }
        }
    }

    fn look_at(&mut self, due: Instant, now: Instant, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.armed, true) {
            ctx.run_later(due.saturating_duration_since(now), |batcher, ctx| {
                batcher.armed = false;
                batcher.advance(ctx);
            });
        }
    }

    fn answer_waiters(&mut self) {
        while let Some((mark, _)) = self.waiters.front()
            && mark.rows <= self.finished.rows
            && mark.releases <= self.finished.releases
        {
            if let Some((_, reply)) = self.waiters.pop_front() {
                let _ = reply.send(());
            }
        }
    }

    fn send(&mut self, load: PendingBatch, ctx: &mut Context<Self>) {
        self.in_flight = true;
        self.deps.epoch_state.held().asks();
        self.sequence += 1;
        let batch = SettleBatch {
            node: self.deps.epoch_state.current(),
            sequence: self.sequence,
            rows: load.rows.iter().map(|record| record.row.clone()).collect(),
            releases: load.releases.clone(),
        };
        let began = self.deps.clock.monotonic();
        let settled = take(Arc::clone(&self.deps.ledger), batch, Arc::clone(&self.counters));
        ctx.spawn(settled.into_actor(self).map(move |answer, batcher, ctx| {
            batcher.in_flight = false;
            batcher.counters.flushes.record(batcher.deps.clock.monotonic().saturating_duration_since(began));
            batcher.settled(load, &answer);
            batcher.deps.epoch_state.held().knows();
            batcher.advance(ctx);
        }));
    }

    fn settled(&mut self, load: PendingBatch, answer: &PortResult<SettleOutcome>) {
        match answer {
            Ok(SettleOutcome::SetAside) => {
                self.counters.set_aside.fetch_add(load.rows.len() as u64, Relaxed);
                self.finish(&load);
                load.settled();
            }
            Ok(SettleOutcome::Settled) => {
                self.released(&load);
                let bytes: u64 = load.rows.iter().map(|record| record.row.bytes_sent).sum();
                self.counters.batches.fetch_add(1, Relaxed);
                self.counters.settled.fetch_add(load.rows.len() as u64, Relaxed);
                self.counters.bytes_settled.fetch_add(bytes, Relaxed);
                self.finish(&load);
                load.settled();
            }
            Err(_) if load.rows.len() + load.releases.len() > 1 => {
                let (first, later) = load.halve();
                self.halves.push_front(later);
                self.halves.push_front(first);
            }
            Err(error) => {
                let row = load.rows.first().map(|record| &record.row);
                tracing::error!(%error, ?row, releases = ?load.releases, "the ledger can never take this row or release, and it was not set aside; this node drops it, and only this log line and the usage spool record it");
                self.counters.dropped.fetch_add(load.rows.len() as u64, Relaxed);
                self.finish(&load);
                load.rows.into_iter().for_each(|record| record.permit.lose());
            }
        }
    }

    /// Reports to the node's count the credit that the ledger has taken off its leases.
    fn released(&self, load: &PendingBatch) {
        let held = self.deps.epoch_state.held();
        for record in &load.rows {
            if let Some(epoch) = record.row.lease_epoch {
                held.returned(epoch, record.spent);
            }
        }
        for release in &load.releases {
            held.returned(release.epoch, release.credit);
        }
    }

    fn finish(&mut self, load: &PendingBatch) {
        self.finished.rows += load.rows.len() as u64;
        self.finished.releases = self.finished.releases.max(load.releases_until);
    }
}

impl Actor for UsageBatcher {
    type Context = Context<Self>;
}

impl Drop for UsageBatcher {
    fn drop(&mut self) {
        for item in self.inbox.close() {
            item.lose(&self.counters);
        }
    }
}

impl<M> Handler<Posted<M>> for UsageBatcher
where
    M: Message<Result = ()>,
    Self: Handler<M>,
{
    type Result = ();

    fn handle(&mut self, posted: Posted<M>, ctx: &mut Self::Context) {
        Handler::handle(self, posted.open(), ctx);
    }
}

impl Handler<Look> for UsageBatcher {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        self.advance(ctx);
    }
}

impl Handler<Flush> for UsageBatcher {
    type Result = ();

    fn handle(&mut self, flush: Flush, ctx: &mut Self::Context) {
        // It waits for what was put in before it was asked.
        self.collect();
        self.waiters.push_back((self.accepted, flush.reply));
        self.advance(ctx);
    }
}
