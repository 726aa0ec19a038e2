//! The outbox of the ledger and the catalogue, written in the transactions that it describes.

use super::*;
use crate::{
    ids::{ContentHash, KeyId, NodeId, ProducerId, ReceiptId, UsageId, VersionId},
    model::{ApiKey, Asset, ContentMeta, NewAsset, NewProducer, NodeEpoch, Outcome, ReceiptStatus, Role, UsageRow},
    ports::{NewReceipt, OutboxEntry, OutboxKind, SettleBatch},
};

const TTL: Duration = Duration::from_secs(3600);

pub(super) async fn run(store: &Store) {
    nothing_is_emitted_unless_it_is_configured(store).await;
    uploads_assets_and_receipts_are_emitted_once(store).await;
    a_batch_of_usage_makes_one_event(store).await;
    a_claimed_outbox_entry_is_exclusive_until_the_claim_expires(store).await;
    old_entries_are_pruned(store).await;
}

async fn emptied(store: &Store) {
    loop {
        let entries = store.claim(1000, Duration::ZERO).await.expect("an answer");
        if entries.is_empty() {
            return;
        }
        store.mark_emitted(&ids(&entries)).await.expect("marked");
    }
}

fn ids(entries: &[OutboxEntry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.id).collect()
}

fn kinds(entries: &[OutboxEntry]) -> Vec<OutboxKind> {
    entries.iter().map(|entry| entry.kind).collect()
}

async fn stored(store: &Store) -> (ContentHash, ProducerId) {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    let producer_id = ProducerId::next();
    let key = ApiKey { key_id: KeyId::next(), producer_id, role: Role::Producer, secret_hash: bytes, ends_in: None };
    store.create_producer(&NewProducer { name: "producer".into(), key, created_at: now() }).await.expect("made");
    let content_hash = ContentHash::from_bytes(bytes);
    let meta = ContentMeta { content_hash, size_bytes: 7, media_type: "text/plain".into(), stored_at: now() };
    store.announce_content(&meta, producer_id).await.expect("announced");
    assert!(store.complete_content(content_hash).await.expect("completed"));
    assert!(!store.complete_content(content_hash).await.expect("completed before"));
    (content_hash, producer_id)
}

async fn asset(store: &Store, content_hash: ContentHash, producer_id: ProducerId) -> Asset {
    let new = NewAsset {
        version_id: VersionId::next(),
        content_hash,
        name: "Tide \"tables\"".into(),
        description: String::new(),
        media_type: None,
        dataset_id: Some("tides".into()),
        policy_meta: json!({}),
        producer_id,
        price_satoshis: 1,
        created_at: now(),
    };
    store.create_asset(&new).await.expect("made");
    store.create_asset(&new).await.expect("a repeated call makes nothing")
}

async fn receipt(store: &Store, version_id: VersionId) -> ReceiptId {
    let new = NewReceipt {
        receipt_id: ReceiptId::random(),
        version_id,
        quota_tier: "unlimited".into(),
        status: ReceiptStatus::Confirmed,
        expires_at: at(now(), 3600),
        created_at: now(),
    };
    store.create_receipt(&new).await.expect("made");
    store.create_receipt(&new).await.expect("a repeated call makes nothing").receipt_id
}

async fn nothing_is_emitted_unless_it_is_configured(store: &Store) {
    store.set_emission(false).await.expect("set");
    emptied(store).await;
    let (content, producer) = stored(store).await;
    let asset = asset(store, content, producer).await;
    receipt(store, asset.version_id).await;
    assert_eq!(store.claim(10, TTL).await.expect("an answer"), []);
}

async fn uploads_assets_and_receipts_are_emitted_once(store: &Store) {
    store.set_emission(true).await.expect("set");
    emptied(store).await;
    let (content, producer) = stored(store).await;
    let asset = asset(store, content, producer).await;
    let receipt = receipt(store, asset.version_id).await;
    let entries = store.claim(10, TTL).await.expect("an answer");
    assert_eq!(kinds(&entries), [OutboxKind::Upload, OutboxKind::Asset, OutboxKind::Receipt]);
    let [upload, made, sold] = entries.as_slice() else { unreachable!("three kinds") };
    assert_eq!(upload.detail, json!({ "content": content, "size": 7, "mediaType": "text/plain" }));
    assert_eq!((&made.detail["content"], &made.detail["name"]), (&json!(content), &json!("Tide \"tables\"")));
    assert_eq!((&made.detail["dataset"], made.happened_at), (&json!("tides"), asset.created_at));
    let id = |value: &Value| Uuid::try_parse(value.as_str().expect("a text")).expect("a UUID");
    assert_eq!(id(&made.detail["version"]), asset.version_id.as_uuid());
    assert_eq!((id(&sold.detail["receipt"]), &sold.detail["tier"]), (receipt.as_uuid(), &json!("unlimited")));
    store.mark_emitted(&ids(&entries)).await.expect("marked");
    store.mark_emitted(&ids(&entries)).await.expect("marked again");
    assert_eq!(store.claim(10, TTL).await.expect("an answer"), []);
}

async fn a_batch_of_usage_makes_one_event(store: &Store) {
    store.set_emission(true).await.expect("set");
    let mut paid = Vec::new();
    for _ in 0..2 {
        let (content, producer) = stored(store).await;
        let asset = asset(store, content, producer).await;
        paid.push((content, receipt(store, asset.version_id).await));
    }
    emptied(store).await;
    let base = at(now(), -60);
    let row = |number: usize, outcome| UsageRow {
        usage_id: UsageId::next(),
        receipt_id: paid[number % 2].1,
        content_hash: paid[number % 2].0,
        session_id: None,
        client: None,
        started_at: at(base, number as i64),
        finished_at: at(base, number as i64 + 10),
        bytes_sent: 100,
        requests: 1,
        outcome,
        lease_epoch: None,
    };
    let mut rows: Vec<_> = (0..7).map(|number| row(number, Outcome::Completed)).collect();
    rows.push(row(8, Outcome::LostLease));
    let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
    let batch = SettleBatch { node, sequence: 1, rows, releases: Vec::new() };
    for inserted in [8, 0] {
        assert_eq!(store.settle(&batch).await.expect("settled").inserted, inserted);
    }
    let entries = store.claim(10, TTL).await.expect("an answer");
    assert_eq!(kinds(&entries), [OutboxKind::Streams], "one for the batch, and none for its repetition");
    assert_eq!(entries[0].happened_at, at(base, 16));
    let mut told = entries[0].detail.as_array().expect("a list").clone();
    let mut expected: Vec<Value> = (0..2)
        .map(|content: usize| {
            let (streams, last) = ([4, 3][content], [6, 5][content]);
            json!({
                "content": paid[content].0, "streams": streams, "bytes": 100 * streams,
                "first": at(base, content as i64).as_microsecond(), "last": at(base, last + 10).as_microsecond(),
            })
        })
        .collect();
    told.sort_by_key(|entry| entry["content"].to_string());
    expected.sort_by_key(|entry| entry["content"].to_string());
    assert_eq!(told, expected);
    store.mark_emitted(&ids(&entries)).await.expect("marked");
}

async fn a_claimed_outbox_entry_is_exclusive_until_the_claim_expires(store: &Store) {
    store.set_emission(true).await.expect("set");
    emptied(store).await;
    for _ in 0..5 {
        stored(store).await;
    }
    let first = store.claim(2, TTL).await.expect("an answer");
    let second = store.claim(10, Duration::ZERO).await.expect("an answer");
    assert_eq!((first.len(), second.len()), (2, 3), "oldest first, and no entry twice");
    assert!(first[1].id < second[0].id && second.is_sorted_by_key(|entry| entry.id));
    // The second claim has run out at once: a claimer that died leaves the entries to the others.
    assert_eq!(store.claim(10, TTL).await.expect("an answer"), second);
    store.mark_emitted(&ids(&first)).await.expect("marked");
    store.mark_emitted(&ids(&second)).await.expect("marked");
}

async fn old_entries_are_pruned(store: &Store) {
    store.set_emission(true).await.expect("set");
    emptied(store).await;
    for _ in 0..3 {
        stored(store).await;
    }
    assert_eq!(store.prune_outbox(at(now(), -60), 10).await.expect("an answer"), 0);
    assert_eq!(store.prune_outbox(at(now(), 60), 2).await.expect("an answer"), 2);
    assert_eq!(store.prune_outbox(at(now(), 60), 2).await.expect("an answer"), 1);
    store.set_emission(false).await.expect("set");
}
