//! One process of a node: the real actors of its quota, its streams, and the step of its Janitor that reclaims leases.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use actix::System;
use jiff::SignedDuration;
use penstock_actors::{
    clock::{Clock, ledger_clock::LedgerClock, watch::ClockWatch},
    ids::{NodeId, SessionId},
    model::{Credit, LeaseSizing, NodeEpoch, Outcome, StreamSession},
    ports::Ledger as _,
    quota::{
        book::{BookSettings, StreamAsk},
        cache::{QuotaDeps, QuotaHandle, QuotaSettings, StreamEnd},
        heartbeat::{self, Endings, Heartbeat, HeartbeatDeps, send_heartbeat, watch_nodes},
        node_epoch::{EpochRecord, NodeEpochState},
        usage_batch::BatchLimits,
        usage_batcher::{UsageDeps, UsageHandle, UsageSettings},
    },
    supervision::Supervised,
    testkit::{memory_spool::MemorySpool, memory_time::WATCH, model_ledger::flaw::Flaw},
};

use super::{clocks::SkewedClock, line::Line, world::World};

/// How long leases are valid without a heartbeat.
pub(crate) const TTL: Duration = Duration::from_secs(12);
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(3);
/// Between two reclaims of a process.
pub(crate) const RECLAIM: Duration = Duration::from_secs(3);

/// How long a question, or a step of a stop, waits for the ledger.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a process that stops lets its streams run.
const GRACE: Duration = Duration::from_secs(8);

/// The fixed things about a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    pub(crate) index: usize,
    pub(crate) node: NodeId,
    /// The last epoch of the same data folder.
    pub(crate) last: Option<NodeEpoch>,
    pub(crate) skew: SignedDuration,
    pub(crate) divisor: u64,
}

pub(crate) struct Process {
    pub(crate) index: usize,
    pub(crate) node: NodeId,
    pub(crate) quota: QuotaHandle,
    pub(crate) line: Arc<Line>,
    pub(crate) state: Arc<NodeEpochState>,
    usage: UsageHandle,
    spool: Arc<MemorySpool>,
    epochs: Arc<Mutex<BTreeSet<i64>>>,
    world: Arc<World>,
    streams: AtomicUsize,
    stops: AtomicBool,
    cuts: AtomicBool,
    _heartbeat: Supervised<Heartbeat>,
}

/// Starts a process, under another identity if its own is in use.
pub(crate) async fn start(world: Arc<World>, mut birth: Birth) {
    while !try_start(&world, birth).await {
        world.note(|| format!("{}: its identity is in use", birth.index));
        birth = Birth { node: NodeId::random(), last: None, ..birth };
    }
}

/// Starts a process; false when its identity is in use.
async fn try_start(world: &Arc<World>, birth: Birth) -> bool {
    let Birth { index, node, last, skew, divisor } = birth;
    let line = Arc::new(Line::new(Arc::clone(world), index));
    let machine = Arc::new(SkewedClock::machine(world.database.now(), skew));
    let clock = Arc::new(LedgerClock::new(machine, world.database.clone()));
    clock.measure().await.expect("the database's clock answers");
    while let Some(last) = last
        && line.declare_dead(last).await.is_err()
    {}
    let state = Arc::new(NodeEpochState::new(node, clock.now().as_microsecond(), clock.monotonic()));
    let epochs = Arc::new(Mutex::new(BTreeSet::from([state.current().epoch])));
    let arbiter = System::current().arbiter().clone();
    let spool = Arc::new(MemorySpool::default());
    let usage_deps =
        UsageDeps { ledger: line.clone(), clock: clock.clone(), epoch_state: Arc::clone(&state), spool: spool.clone() };
    let limits = BatchLimits { rows: 5, age: Duration::from_millis(500) };
    let usage = UsageHandle::start(UsageSettings { limits, queue: 1000 }, usage_deps, &arbiter);
    let fenced = Arc::default();
    let deps = QuotaDeps {
        ledger: line.clone(),
        slots: world.shared.clone(),
        sessions: world.shared.clone(),
        bus: line.clone(),
        changes: world.ledger.clone(),
        clock: clock.clone(),
        usage: usage.clone(),
        epoch_state: Arc::clone(&state),
        fenced: Arc::clone(&fenced),
    };
    let quota = QuotaHandle::start(settings(world, divisor), &deps, std::slice::from_ref(&arbiter));
    let known = Arc::clone(&epochs);
    // A process with this flaw goes by a validity that neither the ledger nor the others know of. The second one has none.
    let overstays = world.flaw == Some(Flaw::SpendsPastValidity) && index != 1;
    let deps = HeartbeatDeps {
        ledger: line.clone(),
        timelines: line.clone(),
        clock: clock.clone(),
        epoch_state: Arc::clone(&state),
        quota: quota.clone(),
        spool: spool.clone(),
        fenced,
        epochs: Arc::new(move |record: &EpochRecord| {
            known.lock().unwrap_or_else(PoisonError::into_inner).insert(record.node_epoch.epoch);
        }),
        ttl: if overstays { TTL * 4 } else { TTL },
        heartbeat: HEARTBEAT,
    };
    usage.flush(PATIENCE).await;
    quota.started().await;
    while send_heartbeat(&deps).await.is_err() {
        if state.has_namesake() {
            line.kill();
            return false;
        }
    }
    watch_nodes(&deps).await;
    let watch = Arc::new(ClockWatch::new(Arc::clone(&clock), world.database.clone(), WATCH));
    let process = Arc::new(Process {
        index,
        node,
        quota,
        line,
        state,
        usage,
        spool,
        epochs,
        world: Arc::clone(world),
        streams: AtomicUsize::new(0),
        stops: AtomicBool::new(false),
        cuts: AtomicBool::new(false),
        _heartbeat: Heartbeat::start(deps, watch, &arbiter),
    });
    actix::spawn(reclaim_loop(Arc::clone(&process), clock));
    world.note(|| format!("{index}: started"));
    world.add(process);
    true
}

fn settings(world: &World, divisor: u64) -> QuotaSettings {
    QuotaSettings {
        // Each receipt has a shard of its own, in which no order depends on random hashes.
        shards: 2,
        queue: 100,
        book: BookSettings {
            entries: 10,
            entry_ttl: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(2),
            refusal_ttl: Duration::from_secs(1),
            held_back_retry: Duration::from_secs(1),
            lease_max: Credit::new(1 << 20, 100),
        },
        sizing: LeaseSizing { divisor },
        patience: PATIENCE,
        slot_ttl: Duration::from_secs(3600),
        session_ttl: Duration::from_secs(3600),
        lost_lease: world.mode,
    }
}

async fn reclaim_loop(process: Arc<Process>, clock: Arc<LedgerClock>) {
    loop {
        tokio::time::sleep(RECLAIM).await;
        process.line.runs().await;
        if process.state.has_namesake() {
            return process.crash();
        }
        let (by, silent) = (process.state.current(), process.state.silent(clock.monotonic()));
        // What fails is tried again by the next pass.
        let _ = process.line.reclaim(by, &silent, process.world.mode, clock.now(), 500).await;
    }
}

impl Process {
    /// Whether clients reach it.
    pub(crate) fn serves(&self) -> bool {
        !self.line.is_dead() && !self.line.stands_still() && !self.stops.load(SeqCst)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stops.load(SeqCst)
    }

    pub(crate) fn crash(&self) {
        self.line.kill();
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.world.accounts(|accounts| accounts.crashes(epochs));
    }

    /// A client that streams, and perhaps leaves before the end. Returns whether the stream was admitted.
    pub(crate) async fn stream(self: Arc<Self>, ask: StreamAsk) -> bool {
        let (world, index) = (Arc::clone(&self.world), self.index);
        self.streams.fetch_add(1, SeqCst);
        let answer = self.quota.acquire(ask, StreamSession::Named(SessionId::random())).await;
        self.line.runs().await;
        let reservation = match answer {
            Ok(reservation) => reservation,
            Err(refusal) => {
                world.note(|| format!("{index}: a stream is refused: {refusal:?}"));
                self.streams.fetch_sub(1, SeqCst);
                return false;
            }
        };
        let (whole, began_at) = (reservation.grant().reserved.bytes, reservation.grant().started_at);
        let epoch = reservation.grant().lease_epoch.map(|epoch| NodeEpoch { node: self.node, epoch });
        world.note(|| format!("{index}: a stream of {whole} begins"));
        let (mut sent, pieces) = (0, 1 + world.roll(4));
        let outcome = loop {
            tokio::time::sleep(Duration::from_millis(1 + world.roll(1500))).await;
            self.line.runs().await;
            if reservation.lost_its_lease() || reservation.grant().revocation.is_raised() {
                break Outcome::Revoked;
            }
            if self.cuts.load(SeqCst) || world.roll(12) == 0 {
                break Outcome::Aborted;
            }
            let piece = whole.div_ceil(pieces).min(whole - sent);
            world.sends(epoch, Credit::new(piece, u64::from(sent == 0)), (ask.receipt_id, began_at));
            sent += piece;
            if sent == whole {
                break Outcome::Completed;
            }
        };
        world.note(|| format!("{index}: a stream ends after {sent} of {whole}: {outcome:?}"));
        reservation.settle(StreamEnd { bytes_sent: sent, position: sent, outcome });
        self.streams.fetch_sub(1, SeqCst);
        true
    }

    async fn close(&self) -> Option<Credit> {
        let endings = Endings { ledger: &*self.line, epoch_state: &self.state, spool: &*self.spool };
        heartbeat::close(endings, PATIENCE).await
    }

    /// Stops as a node that was asked to: its streams end, leases go back, usage is settled, and the epoch is closed.
    pub(crate) async fn stop(&self) {
        self.stops.store(true, SeqCst);
        let (world, index) = (&self.world, self.index);
        world.note(|| format!("{index}: stops"));
        let until = tokio::time::Instant::now() + GRACE;
        while self.streams.load(SeqCst) > 0 {
            self.cuts.store(tokio::time::Instant::now() > until, SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.line.runs().await;
        self.quota.drain().await;
        let flushed = self.usage.flush(PATIENCE).await && self.usage.queue().in_use == 0;
        let left = if flushed { self.close().await } else { None };
        self.line.runs().await;
        match left {
            Some(_) => {
                world.note(|| format!("{index}: has stopped"));
                self.line.kill();
            }
            None => {
                world.note(|| format!("{index}: has stopped without an end of its epoch"));
                self.crash();
            }
        }
    }
}
