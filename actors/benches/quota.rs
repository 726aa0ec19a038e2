//! The cost of admitting a stream and settling it: the arithmetic alone, and through the actor that owns it.
//!
//! The promise is 500,000 pairs a second on one core, so 2 µs each, and no allocation.

use std::{sync::Arc, time::Duration};

use actix::{Arbiter, System};
use async_trait::async_trait;
use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use futures::future::join_all;
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock, SystemClock},
    ids::{ContentHash, NodeId, ReceiptId, SessionId, TimelineId, VersionId},
    model::{
        ContentMeta, Credit, LeaseSizing, LostLease, NewTimeline, NodeEpoch, Outcome, QuotaPolicy, Receipt,
        ReceiptStatus, Session, SessionMark, SessionProgress, StreamSession, Timeline, UsageRow, WindowKind,
        WindowUsage,
    },
    ports::{
        ChangeMark, ChangePage, Changes, Closed, EpochStanding, InvalidationBus, Invalidations, Ledger, NoSpool,
        PortResult, Pulse, ReceiptView, Reclaimed, Refill, RefillRequest, SessionStore, SettleBatch, Settled,
        SlotGrant, StreamSlot, StreamSlots, Tag, Timelines,
    },
    quota::{
        book::{BookDecision, BookSettings, DecisionTime, Demand, Freshness, QuotaBook, StreamAsk},
        cache::{QuotaDeps, QuotaHandle, QuotaSettings, StreamEnd},
        heartbeat::{HeartbeatDeps, send_heartbeat},
        node_epoch::NodeEpochState,
        usage_batch::BatchLimits,
        usage_batcher::{UsageDeps, UsageHandle, UsageSettings},
    },
};
use tokio::sync::{Notify, broadcast};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Pairs of one measured run: many, since one takes little longer than reading the clock.
const PAIRS: usize = 10_000;

const SIZE: u64 = 64 << 10;

/// A lease that no run uses up.
const ENDLESS: Credit = Credit::new(1 << 62, 1 << 62);

/// Longer than any run.
const LONG: Duration = Duration::from_secs(3600);

fn main() {
    divan::main();
}

/// Acquire and Settle on warm entries of a book, with the clock read as the actor reads it.
#[divan::bench(args = [1, 1_000, 50_000])]
fn book(bencher: Bencher<'_, '_>, receipts: usize) {
    let mut book = QuotaBook::new(book_settings());
    let asks: Vec<StreamAsk> = std::iter::repeat_with(ask).take(receipts).collect();
    for ask in &asks {
        let moment = now();
        let refill = refill(ask.receipt_id, moment.wall);
        assert!(book.apply(ask.receipt_id, refill, &moment).is_none());
    }
    let mut turn = 0;
    bencher.counter(ItemsCount::new(PAIRS)).bench_local(|| {
        for _ in 0..PAIRS {
            let ask = &asks[turn % asks.len()];
            turn += 1;
            let BookDecision::Granted(grant) = book.acquire(black_box(ask), &now(), Freshness::Required) else {
                panic!("a warm entry with an endless lease grants");
            };
            let release =
                book.settle(ask.receipt_id, grant.leased, grant.reserved, grant.lease_epoch, grant.started_at);
            assert!(black_box(release).is_none());
        }
    });
}

/// The same through the handle: a question to the shard's actor, its answer, and the usage row to the batcher, with
/// this many concurrent streams.
#[divan::bench(args = [1, 64], sample_count = 50)]
fn handle(bencher: Bencher<'_, '_>, at_once: usize) {
    let system = System::new();
    let quota = system.block_on(start());
    let asks: Vec<StreamAsk> = std::iter::repeat_with(ask).take(at_once).collect();
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        system.block_on(join_all(asks.iter().map(|&ask| stream(&quota, ask))));
    });
}

async fn stream(quota: &QuotaHandle, ask: StreamAsk) {
    let reservation =
        quota.acquire(ask, StreamSession::Unnamed(SessionMark::from_bytes([0; 16]))).await.expect("granted");
    reservation.settle(StreamEnd { bytes_sent: SIZE, position: SIZE, outcome: Outcome::Completed });
}

async fn start() -> QuotaHandle {
    let ledger: Arc<dyn Ledger> = Arc::new(Memory);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let epoch_state = Arc::new(NodeEpochState::new(NodeId::random(), 1, clock.monotonic()));
    let usage = UsageHandle::start(
        UsageSettings { limits: BatchLimits { rows: 1000, age: Duration::from_millis(500) }, queue: 1 << 20 },
        UsageDeps {
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            epoch_state: Arc::clone(&epoch_state),
            spool: Arc::new(NoSpool),
        },
        &Arbiter::new().handle(),
    );
    let fenced = Arc::new(Notify::new());
    let deps = QuotaDeps {
        ledger: Arc::clone(&ledger),
        slots: Arc::new(Memory),
        sessions: Arc::new(Memory),
        bus: Arc::new(Memory),
        changes: Arc::new(Memory),
        clock: Arc::clone(&clock),
        usage: usage.clone(),
        epoch_state: Arc::clone(&epoch_state),
        fenced: Arc::clone(&fenced),
    };
    let settings = QuotaSettings {
        shards: 1,
        queue: 4096,
        book: book_settings(),
        sizing: LeaseSizing { divisor: 8 },
        patience: Duration::from_secs(60),
        slot_ttl: LONG,
        session_ttl: LONG,
        lost_lease: LostLease::Charge,
    };
    let quota = QuotaHandle::start(settings, &deps, &[Arbiter::new().handle()]);
    let heartbeat = HeartbeatDeps {
        ledger,
        timelines: Arc::new(Memory),
        clock,
        epoch_state,
        quota: quota.clone(),
        spool: Arc::new(NoSpool),
        fenced,
        epochs: Arc::new(|_| ()),
        ttl: LONG,
        heartbeat: LONG,
    };
    send_heartbeat(&heartbeat).await.expect("the ledger in memory takes every heartbeat");
    // A mailbox has a limit until its actor has started, so a burst waits for that.
    stream(&quota, ask()).await;
    assert!(usage.flush(LONG).await);
    quota
}

fn book_settings() -> BookSettings {
    BookSettings {
        entries: 100_000,
        entry_ttl: LONG,
        negative_ttl: LONG,
        refusal_ttl: LONG,
        held_back_retry: LONG,
        lease_max: ENDLESS,
    }
}

fn now() -> DecisionTime {
    DecisionTime { wall: SystemClock.now(), monotonic: SystemClock.monotonic(), epoch: 1, may_spend: true }
}

fn ask() -> StreamAsk {
    StreamAsk { receipt_id: ReceiptId::random(), content_hash: content(), demand: Demand::Whole }
}

fn content() -> ContentHash {
    ContentHash::from_bytes([7; 32])
}

/// A receipt under a policy with limits, and a lease on it.
fn refill(receipt_id: ReceiptId, at: Timestamp) -> Refill {
    let policy = QuotaPolicy {
        policy_name: "bench".into(),
        bytes_per_hour: Some(u64::MAX),
        requests_per_month: Some(u64::MAX),
        ..QuotaPolicy::default()
    };
    let receipt = Receipt {
        receipt_id,
        version_id: VersionId::next(),
        content_hash: content(),
        quota_tier: policy.policy_name.clone(),
        status: ReceiptStatus::Confirmed,
        expires_at: at + LONG,
        total_satoshis: 0,
        created_at: at,
        epoch: 0,
    };
    let meta = ContentMeta { content_hash: content(), size_bytes: SIZE, media_type: "video/mp4".into(), stored_at: at };
    Refill {
        view: Some(ReceiptView { receipt, policy, content: Some(meta), asset_name: "bench".into() }),
        windows: WindowKind::ALL.map(|kind| WindowUsage::empty(kind.window(at))),
        granted: ENDLESS,
    }
}

/// Ports that answer at once.
struct Memory;

#[async_trait]
impl Ledger for Memory {
    async fn refill(
        &self,
        _: NodeEpoch,
        requests: &[RefillRequest],
        _: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        Ok(requests.iter().map(|request| refill(request.want.receipt_id, now)).collect())
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        Ok(Settled { inserted: batch.rows.len() as u64 })
    }

    async fn set_aside(&self, _: NodeId, _: &UsageRow, _: &str) -> PortResult<()> {
        Ok(())
    }

    async fn heartbeat(&self, _: NodeEpoch, _: Duration) -> PortResult<()> {
        Ok(())
    }

    async fn standing(&self, _: NodeId) -> PortResult<Option<EpochStanding>> {
        Ok(None)
    }

    async fn declare_dead(&self, _: NodeEpoch) -> PortResult<()> {
        Ok(())
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        Ok(Vec::new())
    }

    async fn note_unknown(&self, _: NodeEpoch, _: Credit) -> PortResult<()> {
        Ok(())
    }

    async fn leased(&self, _: NodeEpoch) -> PortResult<Credit> {
        Ok(Credit::ZERO)
    }

    async fn reclaim(&self, _: NodeEpoch, _: &[Pulse], _: LostLease, _: Timestamp, _: u32) -> PortResult<Reclaimed> {
        Ok(Reclaimed::default())
    }

    async fn close(&self, _: NodeEpoch, _: u32) -> PortResult<Closed> {
        Ok(Closed::default())
    }
}

#[async_trait]
impl Changes for Memory {
    async fn changes(&self, _: Option<ChangeMark>, _: u32) -> PortResult<ChangePage> {
        let timeline = Timeline { timeline_id: TimelineId::random(), moved: false };
        Ok(ChangePage { changes: Vec::new(), mark: ChangeMark(0), anything: false, timeline })
    }

    async fn note_changes(&self, _: &[Tag]) -> PortResult<()> {
        Ok(())
    }

    async fn forget_changes(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        Ok(0)
    }
}

#[async_trait]
impl Timelines for Memory {
    async fn timeline(&self) -> PortResult<Timeline> {
        Ok(Timeline { timeline_id: TimelineId::random(), moved: false })
    }

    async fn begin_timeline(&self, after: TimelineId, _: &str) -> PortResult<NewTimeline> {
        Ok(NewTimeline { timeline_id: after, leases: 0, bytes: 0 })
    }
}

#[async_trait]
impl StreamSlots for Memory {
    async fn take_slot(&self, _: &StreamSlot, _: u32, _: Duration) -> PortResult<SlotGrant> {
        Ok(SlotGrant::Taken)
    }

    async fn refresh_slots(&self, _: &[StreamSlot], _: Duration) -> PortResult<()> {
        Ok(())
    }

    async fn release_slot(&self, _: &StreamSlot) -> PortResult<()> {
        Ok(())
    }

    async fn slots(&self, _: ReceiptId) -> PortResult<u32> {
        Ok(0)
    }
}

#[async_trait]
impl SessionStore for Memory {
    async fn put_session(&self, _: &Session, _: Duration) -> PortResult<()> {
        Ok(())
    }

    async fn session(&self, _: SessionId) -> PortResult<Option<Session>> {
        Ok(None)
    }

    async fn add_progress(
        &self,
        _: SessionId,
        _: u64,
        _: u64,
        _: Timestamp,
        _: Duration,
    ) -> PortResult<Option<SessionProgress>> {
        Ok(None)
    }
}

#[async_trait]
impl InvalidationBus for Memory {
    async fn invalidate(&self, _: &[Tag]) -> PortResult<()> {
        Ok(())
    }

    fn invalidations(&self) -> Invalidations {
        broadcast::channel(1).1
    }
}
