//! No call reads a large table from end to end, and each is one round trip: see [`crate::large`].

use std::time::Duration;

use jiff::Timestamp;
use penstock::adapters::postgres::PostgresStore;
use penstock_actors::{
    clock::{Clock, SystemClock},
    governance::{Decision, GovernancePolicy, Verdict},
    ids::{
        ContentHash, GovernancePolicyId, KeyId, NodeId, PolicyRunId, ProducerId, ReceiptId, UsageId, VerificationId,
        VersionId,
    },
    model::{
        ApiKey, ContentMeta, Credit, LeaseSizing, LostLease, MoveState, NewAsset, NewKey, NewProducer, NodeEpoch,
        Outcome, ReceiptStatus, Role, StorageTask, StorageTier, TaskProgress, UsageRow, Verification,
    },
    ports::{
        ApiKeys, Assets, ChangeMark, Changes, ContentIndex, GovernancePolicies, GovernanceRun, Ledger, NewReceipt,
        Occasion, Pulse, QuarantineList as _, Receipts, Release, RunMark, SettleBatch, StorageMoves as _,
        StorageTasks as _, StoredContents as _, TaskLease, TaskLeases as _, Upkeep, Verifications as _, Want,
    },
    testkit::asked,
};

use crate::{large::Large, support::store};

fn usage(receipt_id: ReceiptId, content_hash: ContentHash, at: Timestamp) -> UsageRow {
    UsageRow {
        usage_id: UsageId::next(),
        receipt_id,
        content_hash,
        session_id: None,
        client: None,
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
            let answers = store.refill(node, &[asked(want)], sizing, now).await.expect("answered");
            assert_eq!(answers[0].granted, amount);
        })
        .await;
    large
        .call("a load", async |store| drop(store.refill(node, &[asked(load)], sizing, now).await.expect("answered")))
        .await;

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
    let mut silent = Vec::new();
    large.call("a look at the others", async |store| silent = store.pulses().await.expect("seen")).await;
    large
        .call("a reclaim", async |store| {
            assert_eq!(store.reclaim(node, &silent, LostLease::Charge, now, 100).await.expect("reclaimed").leases, 100);
        })
        .await;
    let lost = ReceiptId::from_uuid(large.id("receipt", 6).await);
    let late = SettleBatch { node: dead, sequence: 1, rows: vec![usage(lost, content, now)], releases: vec![] };
    large
        .call("a late settlement", async |store| assert_eq!(store.settle(&late).await.expect("settled").inserted, 1))
        .await;
    large
        .call("the end of a fenced epoch", async |store| {
            assert!(store.close(dead, 100).await.expect("closed").uncharged_leases > 0);
        })
        .await;
    large
        .call("a count of nodes", async |store| {
            assert_eq!(Pulse::count_alive(&store.pulses().await.expect("counted")), 99);
        })
        .await;

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
    // As if its clock had been ahead.
    let restored = async |store: &PostgresStore| {
        assert_eq!(store.restore_receipts(now - Duration::from_secs(86_400), 100).await.expect("restored"), 1);
    };
    large.call("receipts that come back", restored).await;
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
    let key = ApiKey {
        key_id: KeyId::next(),
        producer_id: ProducerId::next(),
        role: Role::Producer,
        secret_hash: [1; 32],
        ends_in: None,
    };
    let new = NewProducer { name: "name".into(), key, created_at: now };
    large.call("a new producer", async |store| store.create_producer(&new).await.expect("made")).await;
    large.call("a key", async |store| assert!(store.key(&secret).await.expect("read").is_some())).await;
    large
        .call("keys", async |store| {
            assert_eq!(store.keys(new.key.producer_id, None, 10).await.expect("read").items.len(), 1);
        })
        .await;
    large
        .call("producers", async |store| {
            assert_eq!(store.producers(Some(producer), 10).await.expect("read").items.len(), 10);
        })
        .await;
    let further = ApiKey { key_id: KeyId::next(), secret_hash: [4; 32], ..new.key.clone() };
    let further = NewKey { key: further, name: String::new(), created_at: now };
    large.call("a further key", async |store| store.add_key(&further).await.expect("added")).await;
    let (key, owner) = (further.key.key_id, further.key.producer_id);
    large
        .call("rotation", async |store| {
            assert!(store.rotate_key(key, owner, &[5; 32], Duration::ZERO).await.expect("rotated").is_some());
        })
        .await;
    large.call("revocation", async |store| assert!(store.revoke_key(key, owner, now).await.expect("revoked"))).await;
    large
        .call("a new secret", async |store| {
            assert!(store.replace_key_secret(new.key.key_id, &[2; 32]).await.expect("replaced"));
        })
        .await;
    large.call("content", async |store| assert!(store.content(content).await.expect("read").is_some())).await;
    large
        .call("content of a producer", async |store| {
            assert!(store.content_of(content, producer).await.expect("read").is_some());
        })
        .await;
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
    // Of an instance that died more than a minute ago.
    let moving = ContentHash::from_bytes(large.hash("content", 101).await);
    let lease = TaskLease { holder: NodeId::random().as_uuid(), token: 1 };
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
            store.note_accesses(&[content], jiff::civil::Date::constant(2100, 1, 1)).await.expect("noted");
        })
        .await;
    large
        .call("a lease", async |store| {
            assert_eq!(store.acquire(StorageTask::Walk.into(), lease.holder, ttl).await.expect("free"), Some(lease));
        })
        .await;
    large
        .call("progress", async |store| {
            let progress = TaskProgress { after: Some(content), ..TaskProgress::default() };
            store.save_progress(StorageTask::Walk, lease, &progress).await.expect("stored");
        })
        .await;
    large
        .call("the progress of a task", async |store| {
            assert_eq!(store.progress(StorageTask::Walk).await.expect("read").after, Some(content));
        })
        .await;
    large
        .call("a move", async |store| {
            let begun = store.begin_move(moving, StorageTier::Warm, lease.holder, ttl).await.expect("begun");
            assert_eq!(begun.expect("stored").lease, Some(lease));
        })
        .await;
    large
        .call("a kept move", async |store| {
            store.keep_move(moving, StorageTier::Warm, lease, ttl).await.expect("kept");
        })
        .await;
    large
        .call("the move of a content", async |store| {
            assert!(store.move_of(moving).await.expect("read").is_some());
        })
        .await;
    large
        .call("a switch", async |store| {
            store.switch_tier(moving, StorageTier::Warm, lease).await.expect("switched");
        })
        .await;
    large
        .call("an ended move", async |store| {
            assert!(store.end_move(moving, StorageTier::Warm, MoveState::Leaving).await.expect("ended"));
        })
        .await;
    large
        .call("moves that are due", async |store| {
            assert_eq!(store.leaving_moves(old, None, 100).await.expect("read").len(), 100);
        })
        .await;
    large
        .call("surplus copies", async |store| {
            assert!(store.clear_later(moving, StorageTier::Warm).await.expect("recorded"));
        })
        .await;
    large
        .call("moves that are abandoned", async |store| {
            assert_eq!(store.abandoned_moves(None, 100).await.expect("read").len(), 100);
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
    let id: GovernancePolicyId = "p5".parse().expect("an id");
    let asset = VersionId::from_uuid(large.id("asset", 5).await);
    let policy = GovernancePolicy::read(serde_json::json!({ "rules": [], "description": "new" })).expect("a policy");
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
    let run = GovernanceRun {
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
