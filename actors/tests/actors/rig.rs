//! A node over ports in memory. Each test ends its rig, which fails on all remains of the test.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock as _, ledger_clock::LedgerClock, watch::ClockWatch},
    content::{
        delivery::{Delivery, DeliveryOrder, DeliveryPlan},
        reader::{ContentSettings, Verify},
        resumable::ResumableSettings,
        upload::IngestSettings,
    },
    ids::{ContentHash, NodeId, ReceiptId, VersionId},
    model::{
        ContentMeta, Credit, LeaseSizing, LostLease, Outcome, QuotaPolicy, Receipt, ReceiptStatus, SessionMark,
        StreamSession, UploadBounds,
    },
    node::{Node, NodeFolder, NodeSettings, Observers, Ports, janitor::JanitorSettings},
    ports::{PortResult, ReceiptView, StorageRecords},
    quota::{
        book::{BookSettings, Demand, StreamAsk},
        cache::{QuotaSettings, Reservation, StreamEnd},
        refusal::Refusal,
        usage_batch::BatchLimits,
        usage_batcher::UsageSettings,
    },
    storage::maintenance::MaintenanceSettings,
    testkit::{
        clock::ManualClock,
        connection::TestConnection,
        memory_blobs::{MemoryBlobs, hash_of},
        memory_governance::MemoryGovernancePolicies,
        memory_index::MemoryIndex,
        memory_installations::MemoryInstallations,
        memory_records::MemoryRecords,
        memory_spool::MemorySpool,
        memory_state::MemoryState,
        memory_time::{MemoryTime, WATCH},
        memory_uploads::MemoryUploads,
        model_ledger::ModelLedger,
    },
};
use tokio::{runtime::Runtime, sync::Notify};

/// Half past, so that a test may move on by minutes within the hour.
pub(crate) const START: &str = "2026-11-01T10:30:00Z";

/// The longest wait for a condition. Long enough for a busy machine; a test that waits so long fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The lifetime of the rig's leases, by the clock that tests move.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it never came to pass that {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A session of its own.
pub(crate) fn alone() -> StreamSession {
    StreamSession::Unnamed(SessionMark::from_bytes(ReceiptId::random().as_uuid().into_bytes()))
}

/// Runs a future in a task of its own; its handle aborts it.
pub(crate) fn aside<T: 'static>(future: impl Future<Output = T> + 'static) -> tokio::task::JoinHandle<T> {
    actix::spawn(future)
}

/// The ports that nodes share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    /// The database's clock.
    pub(crate) time: Arc<MemoryTime>,
    pub(crate) ledger: Arc<ModelLedger>,
    pub(crate) shared: Arc<MemoryState>,
    pub(crate) blobs: MemoryBlobs,
    pub(crate) index: Arc<MemoryIndex>,
    pub(crate) policies: Arc<MemoryGovernancePolicies>,
    pub(crate) records: Arc<MemoryRecords>,
    pub(crate) installations: Arc<MemoryInstallations>,
    pub(crate) uploads: Arc<MemoryUploads>,
}

impl Default for World {
    fn default() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self {
            ledger: Arc::new(ModelLedger::new(clock.clone())),
            time: Arc::new(MemoryTime::new(clock.clone())),
            uploads: Arc::new(MemoryUploads::by(clock.clone())),
            clock,
            shared: Arc::default(),
            blobs: MemoryBlobs::default(),
            index: Arc::default(),
            policies: Arc::default(),
            records: Arc::default(),
            installations: Arc::default(),
        }
    }
}

/// The watch over a database's time, by a clock that follows the database.
pub(crate) fn watch(clock: Arc<LedgerClock>, time: &Arc<MemoryTime>) -> Arc<ClockWatch> {
    Arc::new(ClockWatch::new(clock, time.clone(), WATCH))
}

/// The watch over the time of a database that has this clock.
pub(crate) fn watch_of(clock: &Arc<ManualClock>) -> Arc<ClockWatch> {
    let time = Arc::new(MemoryTime::new(clock.clone()));
    watch(Arc::new(LedgerClock::new(clock.clone(), time.clone())), &time)
}

/// A receipt in the ledger, and its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right {
    pub(crate) id: ReceiptId,
    pub(crate) hash: ContentHash,
    pub(crate) size: u64,
}

impl Right {
    pub(crate) const fn ask(&self, demand: Demand) -> StreamAsk {
        StreamAsk { receipt_id: self.id, content_hash: self.hash, demand }
    }
}

/// A policy that limits bytes, in all windows alike.
pub(crate) fn bytes(limit: u64) -> QuotaPolicy {
    QuotaPolicy {
        policy_name: "bytes".into(),
        bytes_per_hour: Some(limit),
        bytes_per_day: Some(limit),
        bytes_per_month: Some(limit),
        ..QuotaPolicy::default()
    }
}

/// A policy that limits concurrent streams.
pub(crate) fn streams(limit: u32) -> QuotaPolicy {
    QuotaPolicy { max_concurrent_streams: Some(limit), ..bytes(1 << 30) }
}

impl World {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A confirmed receipt for a content of this size, which need not be stored.
    pub(crate) fn receipt(&self, policy: QuotaPolicy, size: u64) -> Right {
        let mut name = [0; 32];
        name[..16].copy_from_slice(ReceiptId::random().as_uuid().as_bytes());
        self.receipt_for(policy, ContentHash::from_bytes(name), size)
    }

    /// A confirmed receipt for stored content.
    pub(crate) fn receipt_to(&self, policy: QuotaPolicy, content: impl Into<Bytes>) -> Right {
        let content = content.into();
        let size_bytes = content.len() as u64;
        let content_hash = hash_of(&content);
        // Indexed before it is visible, as in an upload: the node's own Janitor runs beside the test.
        self.index.put(ContentMeta { content_hash, size_bytes, media_type: "video/mp4".into(), stored_at: self.now() });
        self.blobs.put(content);
        self.receipt_for(policy, content_hash, size_bytes)
    }

    pub(crate) fn receipt_for(&self, policy: QuotaPolicy, hash: ContentHash, size: u64) -> Right {
        let (id, now) = (ReceiptId::random(), self.now());
        self.ledger.put_receipt(ReceiptView {
            receipt: Receipt {
                receipt_id: id,
                version_id: VersionId::next(),
                content_hash: hash,
                quota_tier: policy.policy_name.clone(),
                status: ReceiptStatus::Confirmed,
                expires_at: now + Duration::from_secs(400 * 86_400),
                total_satoshis: 0,
                created_at: now,
                epoch: 0,
            },
            policy,
            content: Some(ContentMeta {
                content_hash: hash,
                size_bytes: size,
                media_type: "video/mp4".into(),
                stored_at: now,
            }),
            asset_name: "a".into(),
        });
        Right { id, hash, size }
    }
}

/// Bounds that no test reaches by accident.
pub(crate) fn settings() -> NodeSettings {
    NodeSettings {
        quota: QuotaSettings {
            shards: 2,
            queue: 10_000,
            book: BookSettings {
                entries: 10_000,
                entry_ttl: Duration::from_secs(45),
                negative_ttl: Duration::from_secs(5),
                refusal_ttl: Duration::from_secs(1),
                held_back_retry: Duration::from_secs(1),
                lease_max: Credit::new(1 << 30, 1000),
            },
            sizing: LeaseSizing { divisor: 8 },
            patience: DEADLINE,
            slot_ttl: Duration::from_secs(60),
            session_ttl: Duration::from_secs(3600),
            lost_lease: LostLease::Charge,
        },
        usage: UsageSettings { limits: BatchLimits { rows: 100, age: Duration::from_millis(5) }, queue: 20_000 },
        content: ContentSettings { memory_cache: 64 << 20, read_ahead: 256 << 20, verify: Verify::Cold },
        ingest: IngestSettings { max_bytes: 64 << 20, concurrent: 4, in_parts: 4, stores_parts: false },
        resumable: ResumableSettings {
            bounds: UploadBounds { per_producer: 10, total_bytes: 1 << 30 },
            ttl: Duration::from_secs(86_400),
        },
        janitor: JanitorSettings {
            interval: Duration::from_secs(3600),
            step: 10,
            lost_lease: LostLease::Charge,
            temporary_age: Duration::from_secs(3600),
            trash_ttl: Duration::from_secs(30 * 86_400),
            orphan_share: 0.1,
            window_retention: Duration::from_secs(400 * 86_400),
            client_key_retention: Duration::from_secs(86_400),
            policy_retention: Duration::from_secs(400 * 86_400),
            months_ahead: 3,
        },
        storage: MaintenanceSettings {
            interval: Duration::from_secs(3600),
            verify_rate: None,
            verify_every: Duration::from_secs(86_400),
            missing_per_hour: 30,
            retention: Duration::from_secs(90 * 86_400),
            warm_after: None,
            cold_after: None,
            move_rate: 1 << 40,
            grace: Duration::from_secs(600),
        },
        max_streams: 20_000,
        max_searches: 4,
        lease_ttl: LEASE_TTL,
        heartbeat: Duration::from_millis(20),
        change_poll: Duration::from_millis(10),
    }
}

/// A running node, and its world.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) id: NodeId,
    pub(crate) world: World,
    pub(crate) spool: Arc<MemorySpool>,
    io: Option<Runtime>,
    ended: bool,
}

impl std::ops::Deref for Rig {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut NodeSettings)) -> Self {
        Self::join(&World::default(), change).await
    }

    /// A node in a world that may have other nodes.
    pub(crate) async fn join(world: &World, change: impl FnOnce(&mut NodeSettings)) -> Self {
        Self::again(world, NodeId::random(), Arc::default(), change).await
    }

    /// A node that has run before, on the spool that its last process left.
    pub(crate) async fn again(
        world: &World,
        id: NodeId,
        spool: Arc<MemorySpool>,
        change: impl FnOnce(&mut NodeSettings),
    ) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let io = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let passed = Arc::new(Notify::new());
        let pass_ended = Arc::clone(&passed);
        let observers = Observers {
            epochs: Arc::new(|_| {}),
            janitor: Arc::new(move |_| pass_ended.notify_one()),
            changes: Arc::new(|_| {}),
        };
        let folder = NodeFolder { node: id, spool: spool.clone(), left: spool.left() };
        let node = Node::start(&world.ports(), &settings, folder, observers, io.handle().clone()).await;
        // The first pass of the Janitor would hide a blob that a test puts into the store and not into the index. A pass
        // that a test holds up is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), passed.notified()).await;
        Self { node: node.expect("a node"), id, world: world.clone(), spool, io: Some(io), ended: false }
    }

    pub(crate) async fn acquire(&self, right: &Right, demand: Demand) -> Result<Reservation, Refusal> {
        self.acquire_in(alone(), right, demand).await
    }

    pub(crate) async fn acquire_in(
        &self,
        session: StreamSession,
        right: &Right,
        demand: Demand,
    ) -> Result<Reservation, Refusal> {
        self.node.quota.acquire(right.ask(demand), session).await
    }

    /// Opens the body of a stream of a whole content.
    pub(crate) async fn deliver(&self, right: &Right) -> Delivery {
        let reservation = self.acquire(right, Demand::Whole).await.expect("let in");
        self.deliver_plan(reservation, DeliveryPlan::single(0..right.size)).await
    }

    pub(crate) async fn deliver_plan(&self, reservation: Reservation, plan: DeliveryPlan) -> Delivery {
        self.open(reservation, plan).await.expect("readable")
    }

    pub(crate) async fn open(&self, reservation: Reservation, plan: DeliveryPlan) -> PortResult<Delivery> {
        self.open_to(&TestConnection::new(), reservation, plan).await
    }

    /// Opens the body of a stream over a connection.
    pub(crate) async fn open_to(
        &self,
        connection: &Arc<TestConnection>,
        reservation: Reservation,
        plan: DeliveryPlan,
    ) -> PortResult<Delivery> {
        let permit =
            self.node.streams.try_admit(reservation.grant().view.receipt.receipt_id).expect("room for a stream");
        let connection = connection.weak();
        self.node.deliver(DeliveryOrder { plan, reservation, permit, connection }).await
    }

    /// Round trips for refills so far.
    pub(crate) fn refills(&self) -> usize {
        self.ledger.script.calls("refill").len()
    }

    pub(crate) fn active(&self) -> u64 {
        self.node.quota.counters().active_streams.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Questions that wait for an answer.
    pub(crate) fn waiting(&self) -> u64 {
        self.node.quota.queues().map(|queue| queue.in_use).sum()
    }

    /// Waits until every message that was sent so far has been handled and every row is in the ledger.
    pub(crate) async fn settled(&self) {
        eventually("every stream is settled", || self.active() == 0).await;
        assert!(self.node.usage.flush(DEADLINE).await, "usage reaches the ledger");
    }

    /// Like [`settled`](Self::settled), except for this many streams that run on.
    pub(crate) async fn settled_but(&self, running: u64) {
        eventually("the other streams are settled", || self.active() == running).await;
    }

    /// Drains the node, and fails on leftovers: permits, waiting questions, streams, slots, leases, rows, open uploads.
    pub(crate) async fn end(mut self) {
        self.ended = true;
        eventually("no question waits", || self.waiting() == 0).await;
        self.settled().await;
        let report = self.node.drain(DEADLINE).await;
        assert_eq!((report.streams, report.unsettled, report.closed), (0, 0, true), "the drain leaves nothing");
        eventually("every permit is back", || self.node.queues().iter().all(|queue| queue.in_use == 0)).await;
        eventually("every slot is back", || self.shared.slots_taken() == 0).await;
        eventually("no upload is left", || self.blobs.unfinished() == 0).await;
        let usage = self.node.usage.counters();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(load(&usage.recorded), load(&usage.settled) + load(&usage.set_aside), "every row came to an end");
        let left = self.spool.left();
        assert!(left.rows.is_empty() && left.complete.is_empty(), "the spool owes nothing: {left:?}");
        assert!(self.node.is_alive(), "no actor died");
        self.ledger.check();
    }

    /// Ends a rig whose node is broken, and so leaves things behind.
    pub(crate) fn break_off(mut self) {
        self.ended = true;
    }

    /// Like [`end`](Self::end), for the only node of its world: no lease is left in the ledger.
    pub(crate) async fn end_alone(self) {
        let ledger = Arc::clone(&self.ledger);
        self.end().await;
        assert_eq!(ledger.leased(), [], "every lease went back");
    }
}

impl World {
    pub(crate) fn ports(&self) -> Ports {
        let clock = Arc::new(LedgerClock::new(self.clock.clone(), self.time.clone()));
        Ports {
            ledger: self.ledger.clone(),
            upkeep: self.ledger.clone(),
            index: self.index.clone(),
            changes: self.ledger.clone(),
            timelines: self.ledger.clone(),
            policies: self.policies.clone(),
            blobs: Arc::new(self.blobs.clone()),
            copies: Arc::new(self.blobs.clone()),
            trash: Arc::new(self.blobs.clone()),
            resumable: self.uploads.clone(),
            upload_parts: Arc::new(self.blobs.clone()),
            shared: self.shared.clone(),
            storage: StorageRecords::of(&self.records),
            installations: self.installations.clone(),
            watch: watch(Arc::clone(&clock), &self.time),
            clock,
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            io.shutdown_background();
        }
        assert!(self.ended || std::thread::panicking(), "a test ends its rig, so that leftovers show");
    }
}

/// A stream that sent this many bytes and finished.
pub(crate) const fn completed(bytes_sent: u64) -> StreamEnd {
    StreamEnd { bytes_sent, position: bytes_sent, outcome: Outcome::Completed }
}

/// A stream whose client left after this many bytes.
pub(crate) const fn aborted(bytes_sent: u64) -> StreamEnd {
    StreamEnd { bytes_sent, position: bytes_sent, outcome: Outcome::Aborted }
}
