//! Shared by the tests of this adapter: a store on a file of its own, with a receipt to spend from.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan as _};
use penstock_actors::{
    ids::{ContentHash, KeyId, NodeId, ProducerId, ReceiptId, VersionId},
    model::{ApiKey, ContentMeta, NewAsset, NewProducer, NodeEpoch, QuotaPolicy, Receipt, ReceiptStatus, Role},
    ports::{ApiKeys as _, Assets as _, ContentIndex as _, Ledger as _, NewReceipt, Receipts as _},
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{SqliteSettings, SqliteStore, migrate};
use crate::telemetry::DbMetrics;

/// The size of the content that the receipts here are for.
pub(super) const CONTENT_BYTES: u64 = 1000;

/// A migrated database in a folder that is removed with it.
pub(super) struct Database {
    pub(super) settings: SqliteSettings,
    pub(super) metrics: Arc<DbMetrics>,
    _folder: TempDir,
}

impl Database {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("penstock.db");
        // Long enough that only a test that holds the lock for ever reaches it.
        let settings = SqliteSettings { path, readers: 2, busy_timeout: Duration::from_secs(60) };
        migrate(&settings).expect("migrations");
        let metrics = Arc::new(DbMetrics::new(&prometheus::Registry::new()).expect("metrics"));
        Self { settings, metrics, _folder: folder }
    }

    pub(super) fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.settings, Arc::clone(&self.metrics)).expect("an open store")
    }

    /// A connection that bypasses the store.
    pub(super) fn raw(&self) -> Connection {
        super::connection::open_writer(&self.settings).expect("a connection")
    }
}

/// A receipt under a policy with an hourly limit of `bytes_per_hour` bytes and 100 requests.
pub(super) async fn metered_receipt(store: &SqliteStore, bytes_per_hour: u64, now: Timestamp) -> Receipt {
    let policy = QuotaPolicy {
        policy_name: format!("tier-{}", VersionId::next()),
        bytes_per_hour: Some(bytes_per_hour),
        requests_per_hour: Some(100),
        ..QuotaPolicy::default()
    };
    assert!(store.put_quota_policy(&policy, now).await.expect("a policy"));
    let asset = new_asset(store, now).await;
    store.create_asset(&asset).await.expect("an asset");
    let receipt = NewReceipt {
        receipt_id: ReceiptId::random(),
        version_id: asset.version_id,
        quota_tier: policy.policy_name,
        status: ReceiptStatus::Confirmed,
        expires_at: now + (24 * 30).hours(),
        created_at: now,
    };
    store.create_receipt(&receipt).await.expect("a receipt")
}

/// An asset that can be created: its producer exists, its content is stored.
async fn new_asset(store: &SqliteStore, now: Timestamp) -> NewAsset {
    let id = VersionId::next();
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(id.as_uuid().as_bytes());
    let producer_id = ProducerId::next();
    let key = ApiKey { key_id: KeyId::next(), producer_id, role: Role::Producer, secret_hash: hash, ends_in: None };
    store.create_producer(&NewProducer { name: "producer".into(), key, created_at: now }).await.expect("a producer");
    let content_hash = ContentHash::from_bytes(hash);
    let content =
        ContentMeta { content_hash, size_bytes: CONTENT_BYTES, media_type: "text/plain".into(), stored_at: now };
    store.announce_content(&content, producer_id).await.expect("announced");
    assert!(store.complete_content(content_hash).await.expect("stored"));
    NewAsset {
        version_id: id,
        content_hash,
        name: "asset".into(),
        description: String::new(),
        media_type: None,
        dataset_id: None,
        policy_meta: serde_json::json!({}),
        producer_id,
        price_satoshis: 5,
        created_at: now,
    }
}

/// A node that is alive for as long as the test.
pub(super) async fn live_node(store: &SqliteStore) -> NodeEpoch {
    let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
    store.heartbeat(node, Duration::from_secs(3600)).await.expect("a heartbeat");
    node
}
