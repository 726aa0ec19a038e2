//! No call reads a large table from end to end, and each is one round trip.
//!
//! The server itself says how often it has scanned a table, which sees into functions as a plan does not.

use std::{future::poll_fn, time::Duration};

use jiff::Timestamp;
use penstock::adapters::postgres::{PostgresSettings, PostgresStore};
use penstock_actors::{
    clock::{Clock, SystemClock},
    governance::{Decision, Policy, Verdict},
    ids::{
        ContentHash, KeyId, NodeId, PolicyId, PolicyRunId, ProducerId, ReceiptId, UsageId, VerificationId, VersionId,
    },
    model::{
        ApiKey, ContentMeta, Credit, LeaseSizing, LostLease, MoveState, NewAsset, NewProducer, NodeEpoch, Outcome,
        ReceiptStatus, Role, StorageTask, TaskProgress, Tier, UsageRow, Verification,
    },
    ports::{
        Catalog, ChangeMark, Changes, Ledger, Media, NewReceipt, Occasion, Policies, PolicyRun, Receipts, Release,
        RunMark, Search, SettleBatch, StorageRecords, Upkeep, Want, Wish,
    },
    search::TextQuery,
};
use tokio::task::yield_now;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::{TestDatabase, round_trips, store};

/// 100,000 rows of everything that grows (half of the receipts are leased, by a hundred nodes that
/// are alive), made by their number so that the test can name
/// any of them. Foreign keys are as they
/// should be but are not checked one by one.
const FILL: &str = "
    SET session_replication_role = replica;
    INSERT INTO producers SELECT md5('producer' || n)::uuid, 'name', now() FROM generate_series(1, 100000) n;
    INSERT INTO api_keys SELECT md5('key' || n)::uuid, md5('producer' || n)::uuid, 'producer',
        sha256(('key' || n)::bytea), now()
        FROM generate_series(1, 100000) n;
    INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at,
        stored_at)
        SELECT sha256(('content' || n)::bytea), 1000, 'text/plain', 'stored', md5('producer' || n)::uuid, now(), now()
        FROM generate_series(1, 100000) n;
    INSERT INTO assets SELECT md5('asset' || n)::uuid, sha256(('content' || n)::bytea), 'name ' || n, 'of ' || n % 7,
        'text/plain', 'dataset ' || n % 100, '{}', md5('producer' || n)::uuid, now() FROM generate_series(1, 100000) n;
    INSERT INTO prices SELECT md5('asset' || n)::uuid, 1, now() FROM generate_series(1, 100000) n;
    INSERT INTO overlay_receipts SELECT md5('receipt' || n)::uuid, md5('asset' || n)::uuid,
        sha256(('content' || n)::bytea),
        'standard', 'confirmed', now() + interval '30 days', 1, 0, now(), now() FROM generate_series(1, 100000) n;
    INSERT INTO quota_usage_windows (receipt_id, window_type, window_start, window_end, bytes_used, bytes_reserved,
            requests_used, requests_reserved)
        SELECT md5('receipt' || n)::uuid, w.window_type, w.window_start, w.window_end, 1,
            CASE WHEN n > 50000 THEN 0 ELSE 10 END, 1,
            CASE WHEN n > 50000 THEN 0 ELSE 1 END
        FROM generate_series(1, 100000) n, penstock_windows(now()) w;
    INSERT INTO ledger_nodes SELECT md5('node' || n)::uuid, 1, now() + CASE WHEN n <= 100 THEN 1
        ELSE -24 END * interval '1 hour',
        n > 100, 0 FROM generate_series(1, 100000) n;
    INSERT INTO quota_leases SELECT md5('receipt' || n)::uuid, md5('node' || n % 100 + 1)::uuid, 1,
        date_trunc('hour', now(), 'UTC'), 10, 1
        FROM generate_series(1, 50000) n;
    INSERT INTO streaming_usage SELECT md5('usage' || n)::uuid, md5('receipt' || n)::uuid,
        sha256(('content' || n)::bytea), NULL,
        md5('node' || n)::uuid, now(), now(), 1, 1, 'completed', 1 FROM generate_series(1, 100000) n;
    INSERT INTO change_log (txid, tag, changed_at)
        SELECT n, 'policy:standard', now() - (100000 - n) * interval '1 second' FROM generate_series(1, 100000) n;
    INSERT INTO policies SELECT 'p' || n, 2, '{\"rules\": []}', now() FROM generate_series(1, 100000) n;
    INSERT INTO policy_versions SELECT 'p' || (n + 1) / 2, 2 - n % 2, '{\"rules\": []}', now() - n * interval '1 day'
        FROM generate_series(1, 100000) n;
    INSERT INTO policy_runs SELECT md5('run' || n)::uuid, 'p' || n % 10, 1, md5('asset' || n % 100)::uuid, 'evaluate',
        'allow', now() - n * interval '1 second',
        '{\"decision\": \"allow\", \"reasons\": [], \"passed\": [], \"notApplicable\": []}' FROM generate_series(1, 100000) n;
    INSERT INTO storage_verifications SELECT md5('look' || n)::uuid, sha256(('content' || n % 1000)::bytea), 'walk', 'hot',
        'intact', 1000, 1000, md5('node')::uuid, now() - n * interval '1 second' FROM generate_series(1, 100000) n;
    INSERT INTO storage_quarantine SELECT sha256(('content' || n)::bytea), now() FROM generate_series(1, 100000) n;
    INSERT INTO storage_moves SELECT sha256(('content' || n)::bytea), 'cold',
        CASE WHEN n % 2 = 0 THEN 'leaving' ELSE 'copying' END, now() - n * interval '1 second'
        FROM generate_series(1, 100000) n;
    INSERT INTO content_uses SELECT sha256(('content' || n)::bytea), now() FROM generate_series(1, 100000) n;
    RESET session_replication_role;
    ANALYZE;";

/// What the server has read from end to end, of tables that are large.
const SCANNED: &str = "
    SELECT s.relname::text, s.seq_scan
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE c.reltuples > 10000
    ORDER BY 1";

struct Large {
    database: TestDatabase,
    client: Client,
}

impl Large {
    async fn new() -> Self {
        let database = TestDatabase::migrated().await;
        let client = database.client().await;
        client.batch_execute(FILL).await.expect("filled");
        Self { database, client }
    }

    async fn scanned(&self) -> Vec<(String, i64)> {
        self.client.batch_execute("SELECT pg_stat_clear_snapshot()").await.expect("cleared");
        let rows = self.client.query(SCANNED, &[]).await.expect("statistics");
        assert!(rows.len() >= 10, "every table that grows is large");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Makes one call over a connection of its own. The server counts what a connection did when that ends.
    async fn call(&self, name: &str, call: impl AsyncFnOnce(&PostgresStore)) {
        let before = self.scanned().await;
        let (store, metrics) = store(PostgresSettings { pool_max: 1, ..self.database.settings() }).await;
        call(&store).await;
        drop(store);
        const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'penstock'";
        while self.client.query_one(OTHERS, &[]).await.expect("counted").get::<_, i64>(0) > 0 {
            yield_now().await;
        }
        assert_eq!(self.scanned().await, before, "{name} reads a table from end to end");
        assert_eq!(round_trips(&metrics), 1, "{name} is one round trip");
    }

    /// The id of a row that [`FILL`] has made.
    async fn id(&self, what: &str, number: u32) -> uuid::Uuid {
        let text = format!("{what}{number}");
        self.client.query_one("SELECT md5($1)::uuid", &[&text]).await.expect("an id").get(0)
    }

    async fn hash(&self, what: &str, number: u32) -> [u8; 32] {
        let text = format!("{what}{number}");
        let row = self.client.query_one("SELECT sha256($1::text::bytea)", &[&text]).await.expect("a hash");
        row.get::<_, Vec<u8>>(0).try_into().expect("32 bytes")
    }
}

fn usage(receipt_id: ReceiptId, content_hash: ContentHash, at: Timestamp) -> UsageRow {
    UsageRow {
        usage_id: UsageId::next(),
        receipt_id,
        content_hash,
        session_id: None,
        started_at: at,
        finished_at: at,
        bytes_sent: 3,
        requests: 1,
        outcome: Outcome::Completed,
        lease_epoch: Some(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_never_scans_a_large_table() {
    let large = Large::new().await;
    let now = SystemClock.now();
    let receipt = ReceiptId::from_uuid(large.id("receipt", 5).await);
    let version = VersionId::from_uuid(large.id("asset", 5).await);
    let content = ContentHash::from_bytes(large.hash("content", 5).await);
    let node = NodeEpoch { node: NodeId::from_uuid(large.id("node", 5).await), epoch: 1 };
    let dead = NodeEpoch { node: NodeId::from_uuid(large.id("node", 6).await), epoch: 1 };

    let amount = Credit::new(10, 1);
    let want = Want { receipt_id: receipt, content_hash: content, need: amount, want: amount };
    let load = Want { need: Credit::ZERO, want: Credit::ZERO, ..want };
    let sizing = LeaseSizing { divisor: 8 };
    large
        .call("a refill", async |store| {
            let answers = store.refill(node, &[want], sizing, now).await.expect("answered");
            assert_eq!(answers[0].granted, amount);
        })
        .await;
    large.call("a load", async |store| drop(store.refill(node, &[load], sizing, now).await.expect("answered"))).await;

    let mut rows = Vec::new();
    for number in 1..=200 {
        let receipt = ReceiptId::from_uuid(large.id("receipt", number).await);
        rows.push(usage(receipt, content, now));
    }
    let release = Release { receipt_id: receipt, window: now, epoch: 1, credit: Credit::new(1, 0) };
    let batch = SettleBatch { node, sequence: 1, rows, releases: vec![release] };
    large
        .call("a settlement", async |store| assert_eq!(store.settle(&batch).await.expect("settled").inserted, 200))
        .await;
    large.call("a heartbeat", async |store| store.heartbeat(node, Duration::from_secs(60)).await.expect("alive")).await;
    large.call("a last heartbeat", async |store| store.heartbeat(dead, Duration::ZERO).await.expect("alive")).await;
    large
        .call("a reclaim", async |store| {
            assert_eq!(store.reclaim(LostLease::Charge, now, 100).await.expect("reclaimed").leases, 100);
        })
        .await;
    let lost = ReceiptId::from_uuid(large.id("receipt", 6).await);
    let late = SettleBatch { node: dead, sequence: 1, rows: vec![usage(lost, content, now)], releases: vec![] };
    large
        .call("a late settlement", async |store| assert_eq!(store.settle(&late).await.expect("settled").inserted, 1))
        .await;
    large.call("a count of nodes", async |store| assert_eq!(store.nodes_alive().await.expect("counted"), 99)).await;

    let new = NewReceipt {
        receipt_id: ReceiptId::random(),
        version_id: version,
        quota_tier: "standard".into(),
        status: ReceiptStatus::Confirmed,
        expires_at: now,
        created_at: now,
    };
    large.call("a new receipt", async |store| drop(store.create_receipt(&new).await.expect("made"))).await;
    large.call("a receipt", async |store| assert!(store.receipt(receipt).await.expect("read").is_some())).await;
    large
        .call("a change of status", async |store| {
            drop(store.set_receipt_status(receipt, ReceiptStatus::Settled, now).await.expect("changed"));
        })
        .await;
    large.call("a quota", async |store| assert!(store.quota(receipt, now).await.expect("read").is_some())).await;
    large.call("usage", async |store| drop(store.usage(receipt, None, 50).await.expect("read"))).await;
    large.call("expiry", async |store| assert_eq!(store.expire_receipts(now, 100).await.expect("expired"), 1)).await;
    large.call("an audit", async |store| drop(store.audit(None, 20).await.expect("audited"))).await;
    large
        .call("pruning nodes", async |store| {
            assert_eq!(store.prune_nodes(now - Duration::from_secs(60), 100).await.expect("pruned"), 100);
        })
        .await;
    let far = now + Duration::from_secs(40 * 86_400);
    large
        .call("pruning windows", async |store| assert_eq!(store.prune_windows(far, 100).await.expect("pruned"), 100))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_never_scans_a_large_table() {
    let large = Large::new().await;
    let now = SystemClock.now();
    let version = VersionId::from_uuid(large.id("asset", 5).await);
    let producer = ProducerId::from_uuid(large.id("producer", 5).await);
    let content = ContentHash::from_bytes(large.hash("content", 5).await);
    let secret = large.hash("key", 5).await;
    let key =
        ApiKey { key_id: KeyId::next(), producer_id: ProducerId::next(), role: Role::Producer, secret_hash: [1; 32] };
    let new = NewProducer { name: "name".into(), key, created_at: now };
    large.call("a new producer", async |store| store.create_producer(&new).await.expect("made")).await;
    large.call("a key", async |store| assert!(store.key(&secret).await.expect("read").is_some())).await;
    large
        .call("a new secret", async |store| {
            assert!(store.replace_key_secret(new.key.key_id, &[2; 32]).await.expect("replaced"));
        })
        .await;
    large.call("content", async |store| assert!(store.content(content).await.expect("read").is_some())).await;
    let announced = ContentMeta {
        content_hash: ContentHash::from_bytes([3; 32]),
        size_bytes: 1,
        media_type: "text/plain".into(),
        stored_at: now,
    };
    large
        .call("an announcement", async |store| store.announce_content(&announced, producer).await.expect("announced"))
        .await;
    large
        .call("unknown content", async |store| {
            assert!(store.unknown_content(&[content, announced.content_hash]).await.expect("read").is_empty());
        })
        .await;
    large
        .call("completion", async |store| {
            assert!(store.complete_content(announced.content_hash).await.expect("completed"));
        })
        .await;
    large
        .call("withdrawal", async |store| {
            assert_eq!(store.withdraw_announcements(now, 10).await.expect("withdrawn"), 0);
        })
        .await;
    let asset = NewAsset {
        version_id: VersionId::next(),
        content_hash: content,
        name: "name".into(),
        description: String::new(),
        media_type: None,
        dataset_id: None,
        policy_meta: serde_json::json!({}),
        producer_id: producer,
        price_satoshis: 1,
        created_at: now,
    };
    large.call("a new asset", async |store| drop(store.create_asset(&asset).await.expect("made"))).await;
    large.call("an asset", async |store| assert!(store.asset(version).await.expect("read").is_some())).await;
    large
        .call("a price", async |store| assert!(store.set_price(version, 2, Some(producer), now).await.expect("priced")))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_stored_copies_is_never_found_by_a_scan() {
    let large = Large::new().await;
    let (now, ttl) = (SystemClock.now(), Duration::from_secs(60));
    let content = ContentHash::from_bytes(large.hash("content", 5).await);
    let node = NodeId::random();
    large
        .call("history", async |store| {
            let page = store.verifications(content, None, None, 20).await.expect("read");
            let last = page.last().expect("a page of them");
            assert_eq!((page.len(), last.content_hash), (20, content));
        })
        .await;
    let mut look = large_look(&large, content).await;
    look.verification_id = VerificationId::next();
    large.call("a look", async |store| store.note_verifications(&[look.clone()]).await.expect("noted")).await;
    let old = now - Duration::from_secs(50_000);
    large
        .call("forgetting", async |store| {
            assert_eq!(store.forget_verifications(old, 100).await.expect("forgotten"), 100);
        })
        .await;
    large.call("a lift", async |store| assert!(store.lift_quarantine(content).await.expect("lifted"))).await;
    large.call("a quarantine", async |store| assert!(store.quarantine(content, now).await.expect("kept"))).await;
    large
        .call("the list", async |store| {
            assert_eq!(store.quarantined(Some(content), 50).await.expect("read").len(), 50);
        })
        .await;
    large
        .call("a look-up", async |store| {
            assert_eq!(store.quarantined_among(&[content]).await.expect("read"), [content]);
        })
        .await;
    large.call("a content", async |store| assert!(store.stored_content(content).await.expect("read").is_some())).await;
    large
        .call("a page of a lap", async |store| {
            assert_eq!(store.stored_after(Some(content), 500).await.expect("read").len(), 500);
        })
        .await;
    large
        .call("uses", async |store| {
            store.note_uses(&[content], jiff::civil::Date::constant(2100, 1, 1)).await.expect("noted");
        })
        .await;
    large
        .call("a claim", async |store| {
            assert!(store.claim_task(StorageTask::Walk, node, now, ttl).await.expect("claimed").is_ours);
        })
        .await;
    large
        .call("progress", async |store| {
            let progress = TaskProgress { after: Some(content), ..TaskProgress::default() };
            assert!(store.advance_task(StorageTask::Walk, node, &progress).await.expect("kept"));
        })
        .await;
    large
        .call("a move", async |store| {
            assert!(store.begin_move(content, Tier::Warm, now, now).await.expect("begun").expect("stored").is_ours);
        })
        .await;
    large
        .call("a kept move", async |store| {
            assert!(store.keep_move(content, Tier::Warm, now).await.expect("kept"));
        })
        .await;
    large
        .call("a switch", async |store| {
            assert!(store.switch_tier(content, Tier::Warm, now).await.expect("switched"));
        })
        .await;
    large
        .call("an ended move", async |store| {
            assert!(store.end_move(content, Tier::Warm, MoveState::Leaving).await.expect("ended"));
        })
        .await;
    large
        .call("moves that are due", async |store| {
            assert_eq!(store.moves(MoveState::Leaving, old, 100).await.expect("read").len(), 100);
        })
        .await;
}

/// A look that the store has.
async fn large_look(large: &Large, content: ContentHash) -> Verification {
    let (store, _) = store(large.database.settings()).await;
    store.verifications(content, None, None, 1).await.expect("read").remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn governance_never_scans_a_large_table() {
    let large = Large::new().await;
    let now = SystemClock.now();
    let id: PolicyId = "p5".parse().expect("an id");
    let asset = VersionId::from_uuid(large.id("asset", 5).await);
    let policy = Policy::read(serde_json::json!({ "rules": [], "description": "new" })).expect("a policy");
    let put = async |store: &PostgresStore| store.put_document(&id, &policy, now).await.expect("put").version;
    large.call("a new version", async |store| assert_eq!(put(store).await, 3)).await;
    large.call("the same version", async |store| assert_eq!(put(store).await, 3)).await;
    large.call("a policy", async |store| assert!(store.document(&id).await.expect("read").is_some())).await;
    large.call("a version", async |store| assert!(store.document_version(&id, 1).await.expect("read").is_some())).await;
    large
        .call("policies", async |store| {
            assert_eq!(store.documents(Some(&id), 50).await.expect("read").items.len(), 50);
        })
        .await;
    let mut after = None;
    for _ in 0..2 {
        large
            .call("runs", async |store| {
                let page = store.policy_runs(&id, asset, after, 50).await.expect("read");
                assert_eq!(page.items.len(), 50);
                after = page.items.last().map(RunMark::from);
            })
            .await;
    }
    let verdict =
        Verdict { decision: Decision::Allow, reasons: Vec::new(), passed: Vec::new(), not_applicable: Vec::new() };
    let run = PolicyRun {
        run_id: PolicyRunId::next(),
        policy_id: id.clone(),
        policy_version: 3,
        version_id: asset,
        occasion: Occasion::Publish,
        evaluated_at: now,
        verdict,
    };
    large.call("a new run", async |store| store.record_run(&run).await.expect("kept")).await;
    large
        .call("old runs", async |store| {
            assert_eq!(store.forget_policy_runs(now, 500).await.expect("forgot"), 500);
        })
        .await;
    large
        .call("old versions", async |store| {
            let before = now - Duration::from_secs(86_400);
            assert_eq!(store.forget_policy_versions(before, 500).await.expect("forgot"), 500);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_changes_is_read_and_forgotten_by_its_indexes() {
    let large = Large::new().await;
    large
        .call("changes", async |store| {
            let page = store.changes(Some(ChangeMark(99_000)), 10_000).await.expect("read");
            assert_eq!(page.changes.len(), 1001);
        })
        .await;
    large.call("no changes", async |store| drop(store.changes(None, 10).await.expect("read"))).await;
    large
        .call("what is forgotten", async |store| {
            assert_eq!(store.forget_changes(Timestamp::now(), 500).await.expect("forgot"), 500);
        })
        .await;
}

/// As many as make a table large.
const ENTER: &str = "
    SELECT penstock_enter_assets(array_agg(md5('asset' || n)::uuid), NULL) FROM generate_series(1, 12000) n;
    ANALYZE asset_search, asset_words;";

/// Two words, as the adapter asks for them, and facets.
const TWO_WORDS: &str = "
    SELECT m.rank, m.number, a.name
    FROM penstock_search($$(('^name') & ({^}))$$, $$(('name') & ({}))$$, $$(('name' | '=name') & (({}) | ({=})))$$, '119',
        NULL, NULL, NULL, NULL, 0, 9223372036854775807, NULL, NULL, NULL, 21) m
    LEFT JOIN assets a USING (version_id);
    SELECT * FROM penstock_facets($$(('name' | '=name') & ('119' | '=119'))$$, NULL, NULL, NULL, NULL, 'text', 0,
        9223372036854775807, 1000, 10)";

/// The plans by which the server ran some statements, those within functions included.
async fn plans(database: &TestDatabase, statements: &str) -> Vec<String> {
    let (client, mut connection) = database.config().connect(NoTls).await.expect("a connection");
    let plans = tokio::spawn(async move {
        let mut plans = Vec::new();
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message.expect("a message") {
                plans.push(notice.message().to_owned());
            }
        }
        plans
    });
    let explain =
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
        SET client_min_messages = log";
    client.batch_execute(explain).await.expect("explained");
    client.batch_execute(statements).await.expect("run");
    drop(client);
    plans.await.expect("plans")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_never_scans_a_large_table() {
    let large = Large::new().await;
    large.client.batch_execute(ENTER).await.expect("entered");
    let plans = plans(&large.database, TWO_WORDS).await;
    let found_by = |index: &str| plans.iter().filter(|plan| plan.contains(index)).count();
    assert!(found_by("Bitmap Index Scan on asset_search_document") >= 2, "a page, and facets: {plans:#?}");
    assert!(found_by("using asset_words") >= 1, "what begins with the last word: {plans:#?}");
    assert_eq!(found_by("Seq Scan"), 0, "{plans:#?}");
    let producer = ProducerId::from_uuid(large.id("producer", 5).await);
    let text = |typed: &str| Wish { text: TextQuery::parse(typed).ok(), ..Wish::default() };
    let dataset = Wish { dataset_id: Some("dataset 7".into()), ..Wish::default() };
    for (name, wish, hits) in [
        ("a listing", Wish::default(), 20),
        ("a common word", text("name"), 20),
        ("two words", text("name 6000"), 1),
        ("a beginning", text("name 119"), 20),
        ("a phrase", text("\"of 6\" -name"), 0),
        ("nothing", text("nothing"), 0),
        ("what only excludes", text("-of"), 0),
        ("a dataset", dataset.clone(), 20),
        ("a word in a dataset", Wish { text: TextQuery::parse("name").ok(), ..dataset }, 20),
        ("a producer", Wish { producer_id: Some(producer), ..Wish::default() }, 1),
        ("a media type", Wish { media: Some(Media::Type("text/plain".into())), ..text("name") }, 20),
        ("a family", Wish { media: Some(Media::Family("video".into())), ..Wish::default() }, 0),
        ("a price", Wish { min_price: Some(2), ..Wish::default() }, 0),
        ("a word for a price", Wish { max_price: Some(1), ..text("name") }, 20),
    ] {
        let mut behind = None;
        large
            .call(name, async |store| {
                let page = store.search(&wish, None, 20).await.expect("searched");
                assert_eq!(page.hits.len(), hits, "{name}");
                behind = page.next;
            })
            .await;
        if behind.is_some() {
            large.call(name, async |store| drop(store.search(&wish, behind, 20).await.expect("searched"))).await;
        }
        large.call(name, async |store| drop(store.facets(&wish, 1000, 10).await.expect("counted"))).await;
    }
    let new = NewAsset {
        version_id: VersionId::next(),
        content_hash: ContentHash::from_bytes(large.hash("content", 5).await),
        name: "New words".into(),
        description: String::new(),
        media_type: None,
        dataset_id: None,
        policy_meta: serde_json::json!({ "more": "words" }),
        producer_id: producer,
        price_satoshis: 1,
        created_at: SystemClock.now(),
    };
    large.call("a new asset", async |store| drop(store.create_asset(&new).await.expect("made"))).await;
    large
        .call("a new price", async |store| {
            assert!(store.set_price(new.version_id, 2, None, SystemClock.now()).await.expect("priced"));
        })
        .await;
    let before = large.scanned().await;
    let client = large.database.client().await;
    client.batch_execute("SELECT penstock_backfill_search(100)").await.expect("entered");
    drop(client);
    // The server has counted what that connection did when it has counted what a later one did.
    large.call("an asset", async |store| drop(store.asset(new.version_id).await.expect("read"))).await;
    assert_eq!(large.scanned().await, before, "a step of entering assets reads a table from end to end");
}
