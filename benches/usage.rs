//! Usage rows a second: the way of the service that Penstock replaces, against batches, on the same server in one run.
//!
//! The old way writes each stream when it ends: one insert and three upserts of windows, a round trip each. It is measured
//! with prepared statements, on one and on four connections, each statement its own transaction as in the old service, and
//! also all four in one, which is kinder; the ratio is against whichever was fastest. Run it by `./bench usage`.

#![allow(clippy::print_stdout, reason = "the figures are what this prints")]

#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Arbiter, System};
use futures::future::join_all;
use jiff::Timestamp;
use penstock::{
    adapters::{
        postgres::PostgresSettings,
        sqlite::{self, SqliteSettings, SqliteStore},
    },
    config::StatementMode,
    telemetry::Metrics,
};
use penstock_actors::{
    clock::{Clock, SystemClock},
    ids::{ContentHash, KeyId, NodeId, ProducerId, ReceiptId, UsageId, VersionId},
    model::{
        ApiKey, ContentMeta, Credit, LeaseSizing, NewAsset, NewProducer, NodeEpoch, Outcome, QuotaPolicy,
        ReceiptStatus, Role, UsageRow, WindowSet,
    },
    ports::{Ledger, NewReceipt, NoSpool, Receipts, SettleBatch, Upkeep, Want},
    quota::{
        node_epoch::NodeEpochState,
        usage_batch::BatchLimits,
        usage_batcher::{UsageDeps, UsageHandle, UsageSettings},
    },
    testkit::{asked, catalog_suite::CatalogStore},
};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

/// Rows of a batch, as the default configuration has it.
const BATCH: usize = 1_000;

/// How long each way runs in a round. The rounds take turns, so that other work on the machine meets all of them.
const RUN: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;

/// Rows that the batcher may have in memory: the default of `usage.queue_rows`.
const QUEUE: u32 = 100_000;

const CONNECTIONS: usize = 4;

const INSERT: &str = "INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, node_id, started_at, finished_at, \
     bytes_sent, requests, outcome) VALUES ($1, $2, $3, $4, $5, $5, $6, 1, 'completed')";
const UPSERT: &str = "INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used, \
     requests_used) VALUES ($1, $2, $3, $4, $5, 1) ON CONFLICT (receipt_id, window_type, window_start, window_end) \
     DO UPDATE SET bytes_used = w.bytes_used + excluded.bytes_used, requests_used = w.requests_used + 1";

fn main() {
    System::new().block_on(async {
        let mut results = Results::default();
        on_postgres(&mut results).await;
        on_sqlite(&mut results).await;
        results.print();
    });
}

/// Rows a second of each way, by round.
#[derive(Default)]
struct Results(BTreeMap<String, Vec<f64>>);

impl Results {
    fn add(&mut self, way: impl Into<String>, rows: usize, took: Duration) {
        self.0.entry(way.into()).or_default().push(rows as f64 / took.as_secs_f64());
    }

    fn print(&self) {
        let median = |rates: &[f64]| {
            let mut rates = rates.to_vec();
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let old = self.0.iter().filter(|(way, _)| way.contains("old"));
        let best = old.map(|(_, rates)| median(rates)).fold(0.0, f64::max);
        println!("{:<58} {:>8}  times the best old  by round", "rows a second", "median");
        for (way, rates) in &self.0 {
            let by_round: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
            println!("{way:<58} {:>8.0}  {:>18.1}  {}", median(rates), median(rates) / best, by_round.join(" "));
        }
    }
}

async fn on_postgres(results: &mut Results) {
    let database = postgres::TestDatabase::migrated().await;
    let settings = PostgresSettings { pool_min: 5, pool_max: 15, ..database.settings() };
    let mut stores = Vec::new();
    for statement_mode in [StatementMode::Unnamed, StatementMode::Named] {
        let (store, metrics) = postgres::store(PostgresSettings { statement_mode, ..settings.clone() }).await;
        stores.push((statement_mode, store, metrics));
    }
    let store = Arc::new(stores[0].1.clone());
    let scene = Scene::new(&*store).await;
    // What autovacuum does within the first minute of a database's life, so that no round is about that minute.
    database.client().await.batch_execute("ANALYZE").await.expect("analyzed");
    let clients = join_all((0..CONNECTIONS).map(|_| async { OldWay::prepare(database.client().await).await })).await;
    for round in 0..ROUNDS {
        for connections in [1, CONNECTIONS] {
            for in_one in [false, true] {
                let way = if in_one { "in one transaction" } else { "a transaction each" };
                let (rows, took) = old_way(&clients[..connections], &scene, in_one).await;
                results.add(format!("postgres: old way, {way}, connections: {connections}"), rows, took);
            }
        }
        for (mode, store, _) in &stores {
            for (receipts, lease) in [(BATCH, true), (100, true), (BATCH, false), (100, false)] {
                let (rows, took) = batches(store, &scene, receipts, lease).await;
                let leases = if lease { "leased" } else { "no limits" };
                results.add(format!("postgres: settle, {receipts:>4} receipts, {leases}, {mode:?}"), rows, took);
            }
        }
        let (rows, took) = batcher(Arc::clone(&store) as Arc<dyn Ledger>, &scene, round).await;
        results.add("postgres: UsageBatcher, 1000 receipts, leased", rows, took);
    }
    assert_audited(&*store, &scene).await;
}

async fn on_sqlite(results: &mut Results) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings =
        SqliteSettings { path: folder.path().join("bench.db"), readers: 1, busy_timeout: Duration::from_secs(5) };
    sqlite::migrate(&settings).expect("migrated");
    let metrics = Metrics::new().expect("metrics");
    let store = SqliteStore::open(&settings, Arc::clone(&metrics.db)).expect("opened");
    let scene = Scene::new(&store).await;
    for _ in 0..ROUNDS {
        for receipts in [BATCH, 100] {
            let (rows, took) = batches(&store, &scene, receipts, true).await;
            results.add(format!("sqlite: settle, {receipts:>4} receipts, leased"), rows, took);
        }
    }
    assert_audited(&store, &scene).await;
}

/// Receipts to stream under, and leases on them that no run uses up.
struct Scene {
    node: NodeEpoch,
    content: ContentHash,
    receipts: Vec<ReceiptId>,
    now: Timestamp,
}

impl Scene {
    async fn new<S: Ledger + Receipts + CatalogStore>(store: &S) -> Self {
        let now = SystemClock.now();
        let content = ContentHash::from_bytes([7; 32]);
        let producer = ProducerId::next();
        let key = ApiKey {
            key_id: KeyId::next(),
            producer_id: producer,
            role: Role::Producer,
            secret_hash: [1; 32],
            ends_in: None,
        };
        store.create_producer(&NewProducer { name: "bench".into(), key, created_at: now }).await.expect("a producer");
        let limit = Some(1 << 60);
        let policy = QuotaPolicy {
            policy_name: "bench".into(),
            bytes_per_month: limit,
            requests_per_hour: limit,
            ..QuotaPolicy::default()
        };
        store.put_quota_policy(&policy, now).await.expect("a policy");
        let meta =
            ContentMeta { content_hash: content, size_bytes: 1 << 20, media_type: "video/mp4".into(), stored_at: now };
        store.announce_content(&meta, producer).await.expect("announced");
        assert!(store.complete_content(content).await.expect("completed"));
        let version_id = VersionId::next();
        let asset = NewAsset {
            version_id,
            content_hash: content,
            name: "bench".into(),
            description: String::new(),
            media_type: None,
            dataset_id: None,
            policy_meta: serde_json::json!({}),
            producer_id: producer,
            price_satoshis: 1,
            created_at: now,
        };
        store.create_asset(&asset).await.expect("an asset");
        let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
        store.heartbeat(node, Duration::from_secs(3600)).await.expect("alive");
        let mut scene = Self { node, content, receipts: Vec::new(), now };
        for _ in 0..BATCH {
            let new = NewReceipt {
                receipt_id: ReceiptId::random(),
                version_id,
                quota_tier: "bench".into(),
                status: ReceiptStatus::Confirmed,
                expires_at: now + Duration::from_secs(86_400),
                created_at: now,
            };
            scene.receipts.push(store.create_receipt(&new).await.expect("a receipt").receipt_id);
        }
        scene.lease(store).await;
        scene
    }

    async fn lease<L: Ledger>(&self, ledger: &L) {
        for receipts in self.receipts.chunks(128) {
            let endless = Credit::new(1 << 45, 1 << 45);
            let want = |&receipt_id| Want { receipt_id, content_hash: self.content, need: Credit::ZERO, want: endless };
            let wants: Vec<_> = receipts.iter().map(want).map(asked).collect();
            let answers = ledger.refill(self.node, &wants, LeaseSizing { divisor: 1 }, self.now).await.expect("leases");
            assert!(answers.iter().all(|answer| !answer.granted.is_zero()));
        }
    }

    fn row(&self, receipt_id: ReceiptId, lease_epoch: Option<i64>) -> UsageRow {
        UsageRow {
            usage_id: UsageId::next(),
            receipt_id,
            content_hash: self.content,
            session_id: None,
            client: None,
            started_at: self.now,
            finished_at: self.now,
            bytes_sent: 1 << 20,
            requests: 1,
            outcome: Outcome::Completed,
            lease_epoch,
        }
    }
}

/// One connection of the old way.
struct OldWay {
    client: Client,
    insert: Statement,
    upsert: Statement,
}

impl OldWay {
    async fn prepare(client: Client) -> Self {
        let insert = client.prepare(INSERT).await.expect("prepared");
        let upsert = client.prepare(UPSERT).await.expect("prepared");
        Self { client, insert, upsert }
    }

    async fn stream_ended(&self, scene: &Scene, receipt: ReceiptId, windows: &WindowSet, in_one: bool) {
        let bytes = 1_i64 << 20;
        let (node, id) = (scene.node.node.as_uuid(), UsageId::next().as_uuid());
        let receipt: Uuid = receipt.as_uuid();
        if in_one {
            self.client.batch_execute("BEGIN").await.expect("begun");
        }
        let content = scene.content.as_bytes().as_slice();
        let inserted = self.client.execute(&self.insert, &[&id, &receipt, &content, &node, &scene.now, &bytes]).await;
        assert_eq!(inserted.expect("inserted"), 1);
        for window in windows.iter() {
            let kind = window.kind.as_str();
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&receipt, &kind, &window.start, &window.end, &bytes];
            self.client.execute(&self.upsert, &params).await.expect("upserted");
        }
        if in_one {
            self.client.batch_execute("COMMIT").await.expect("committed");
        }
    }
}

/// The old way on so many connections, each with receipts of its own, so that none waits for another's locks.
async fn old_way(connections: &[OldWay], scene: &Scene, in_one: bool) -> (usize, Duration) {
    let windows = WindowSet::at(scene.now);
    let began = Instant::now();
    let counts = join_all(connections.iter().enumerate().map(|(place, connection)| {
        let windows = &windows;
        async move {
            let mut rows = 0;
            let own = scene.receipts.iter().skip(place).step_by(connections.len()).cycle();
            for &receipt in own {
                if began.elapsed() >= RUN {
                    break;
                }
                connection.stream_ended(scene, receipt, windows, in_one).await;
                rows += 1;
            }
            rows
        }
    }))
    .await;
    (counts.iter().sum(), began.elapsed())
}

/// Batch after batch, one at a time as the batcher sends them.
async fn batches<L: Ledger>(ledger: &L, scene: &Scene, receipts: usize, lease: bool) -> (usize, Duration) {
    // Each run has a node of its own in the ledger's eyes, unless it spends the scene's leases.
    let epoch = if lease { Some(scene.node.epoch) } else { None };
    let began = Instant::now();
    let mut rows = 0;
    while began.elapsed() < RUN {
        let cycle = scene.receipts[..receipts].iter().cycle().take(BATCH);
        let batch = SettleBatch {
            node: scene.node,
            sequence: sequence(),
            rows: cycle.map(|&receipt| scene.row(receipt, epoch)).collect(),
            releases: Vec::new(),
        };
        rows += usize::try_from(ledger.settle(&batch).await.expect("settled").inserted).expect("a count");
    }
    (rows, began.elapsed())
}

/// Everything through the actor, until the last row is durable.
async fn batcher(ledger: Arc<dyn Ledger>, scene: &Scene, round: usize) -> (usize, Duration) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // A node of its own, whose rows name the leases of the scene's only by their epoch.
    let epoch_state = NodeEpochState::new(
        scene.node.node,
        scene.node.epoch + 1 + i64::try_from(round).expect("small"),
        clock.monotonic(),
    );
    let limits = BatchLimits { rows: BATCH, age: Duration::from_millis(500) };
    let deps = UsageDeps { ledger, clock, epoch_state: Arc::new(epoch_state), spool: Arc::new(NoSpool) };
    let usage = UsageHandle::start(UsageSettings { limits, queue: QUEUE }, deps, &Arbiter::new().handle());
    // A mailbox is bounded until its actor has started, so a burst waits for that.
    assert!(usage.flush(RUN).await);
    let began = Instant::now();
    let mut rows = 0;
    for &receipt in scene.receipts.iter().cycle() {
        if began.elapsed() >= RUN {
            break;
        }
        let Some(permit) = usage.admit() else {
            // Full: what a node would refuse, this waits for.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let row = scene.row(receipt, Some(scene.node.epoch));
        let spent = row.credit();
        usage.record(row, spent, permit);
        rows += 1;
    }
    assert!(usage.flush(Duration::from_secs(60)).await, "all rows are durable");
    (rows, began.elapsed())
}

/// Sequences that grow over all runs against a ledger.
fn sequence() -> i64 {
    use std::sync::atomic::{AtomicI64, Ordering};
    static NEXT: AtomicI64 = AtomicI64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A fast ledger that counts wrong is no ledger.
async fn assert_audited<U: Upkeep>(upkeep: &U, scene: &Scene) {
    let limit = u32::try_from(scene.receipts.len()).expect("small");
    let page = upkeep.audit(None, limit).await.expect("audited");
    assert_eq!(page.differences, [], "windows equal the sums of usage rows and leases");
}
