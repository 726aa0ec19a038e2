//! The ports in memory, as far as the shell and the cold endpoints use them, with switches for what may fail.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, KeyId, ProducerId, ReceiptId, SessionId, UsageId, VersionId},
    model::{
        ApiKey, Asset, ContentMeta, KeyInfo, NewAsset, NewKey, NewProducer, ProducerInfo, QuotaPolicy, Receipt,
        ReceiptStatus, Session, SessionProgress, UsageRow,
    },
    ports::{
        ApiKeys, Assets, AuditPage, BlobSink, BlobStore, ChangeMark, ChangePage, Changes, ContentIndex,
        InvalidationBus, Invalidations, LeaseComparison, Missing, NewAssetError, NewReceipt, Page, PortError,
        PortResult, QuotaView, Receipts, ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms, SessionStore, SetAside,
        SharedState, SlotGrant, StatusChange, StoredBlob, StreamSlot, StreamSlots, Tag, UnknownLeases, Upkeep,
    },
};
use tokio::sync::broadcast;

const UNUSED: &str = "no cold endpoint calls this";

#[derive(Default)]
struct Tables {
    keys: HashMap<KeyId, ApiKey>,
    stored: Vec<ContentHash>,
    assets: HashMap<VersionId, Asset>,
    receipts: HashMap<ReceiptId, Receipt>,
    policies: HashMap<String, QuotaPolicy>,
    usage: Vec<UsageRow>,
}

/// All ports of one server.
pub(crate) struct World {
    tables: Mutex<Tables>,
    used: Mutex<HashSet<[u8; 32]>>,
    published: broadcast::Sender<Tag>,
    pub(crate) database_is_down: AtomicBool,
    pub(crate) storage_is_down: AtomicBool,
    pub(crate) shared_is_down: AtomicBool,
    pub(crate) key_lookups: AtomicU64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            tables: Mutex::default(),
            used: Mutex::default(),
            published: broadcast::channel(16).0,
            database_is_down: AtomicBool::default(),
            storage_is_down: AtomicBool::default(),
            shared_is_down: AtomicBool::default(),
            key_lookups: AtomicU64::default(),
        }
    }

    pub(crate) fn store(&self, hash: ContentHash) {
        self.tables.lock().expect("tests do not panic here").stored.push(hash);
    }

    pub(crate) fn record(&self, row: UsageRow) {
        self.tables.lock().expect("tests do not panic here").usage.push(row);
    }

    fn tables(&self) -> PortResult<MutexGuard<'_, Tables>> {
        answers(&self.database_is_down, "database")?;
        Ok(self.tables.lock().expect("tests do not panic here"))
    }
}

fn answers(is_down: &AtomicBool, dependency: &'static str) -> PortResult<()> {
    if is_down.load(Relaxed) {
        return Err(PortError::unavailable(dependency, "connection to 10.0.0.7 refused"));
    }
    Ok(())
}

#[async_trait]
impl ApiKeys for World {
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()> {
        self.tables()?.keys.entry(new.key.key_id).or_insert_with(|| new.key.clone());
        Ok(())
    }

    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>> {
        self.key_lookups.fetch_add(1, Relaxed);
        // A database never answers at once: whatever else could run meanwhile gets its turn.
        tokio::task::yield_now().await;
        Ok(self.tables()?.keys.values().find(|key| key.secret_hash == *secret_hash).cloned())
    }

    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool> {
        Ok(self.tables()?.keys.get_mut(&id).map(|key| key.secret_hash = *secret_hash).is_some())
    }

    async fn producers(&self, _: Option<ProducerId>, _: u32) -> PortResult<Page<ProducerInfo>> {
        unreachable!("{UNUSED}")
    }

    async fn keys(&self, _: ProducerId, _: Option<(Timestamp, KeyId)>, _: u32) -> PortResult<Page<KeyInfo>> {
        unreachable!("{UNUSED}")
    }

    async fn add_key(&self, _: &NewKey) -> PortResult<()> {
        unreachable!("{UNUSED}")
    }

    async fn rotate_key(&self, _: KeyId, _: ProducerId, _: &[u8; 32], _: Duration) -> PortResult<Option<KeyInfo>> {
        unreachable!("{UNUSED}")
    }

    async fn note_key_use(&self, _: KeyId) -> PortResult<()> {
        Ok(())
    }

    async fn revoke_key(&self, _: KeyId, _: ProducerId, _: Timestamp) -> PortResult<bool> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl ContentIndex for World {
    async fn content_of(&self, hash: ContentHash, _: ProducerId) -> PortResult<Option<ContentMeta>> {
        self.content(hash).await
    }

    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>> {
        let stored = self.tables()?.stored.contains(&hash);
        Ok(stored.then(|| ContentMeta {
            content_hash: hash,
            size_bytes: 42,
            media_type: "application/octet-stream".into(),
            stored_at: Timestamp::UNIX_EPOCH,
        }))
    }

    async fn announce_content(&self, _: &ContentMeta, _: ProducerId) -> PortResult<()> {
        unreachable!("{UNUSED}")
    }

    async fn complete_content(&self, _: ContentHash) -> PortResult<bool> {
        unreachable!("{UNUSED}")
    }

    async fn note_upload(&self, _: ContentHash, _: ProducerId) -> PortResult<bool> {
        unreachable!("{UNUSED}")
    }

    async fn has_uploaded(&self, hash: ContentHash, _: ProducerId) -> PortResult<bool> {
        Ok(self.tables()?.stored.contains(&hash))
    }

    async fn unknown_content(&self, _: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        unreachable!("{UNUSED}")
    }

    async fn withdraw_announcements(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl Assets for World {
    async fn create_asset(&self, new: &NewAsset) -> Result<Asset, NewAssetError> {
        let mut tables = self.tables()?;
        if !tables.stored.contains(&new.content_hash) {
            return Err(NewAssetError::ContentNotStored);
        }
        let new = new.clone();
        let asset = Asset {
            version_id: new.version_id,
            content_hash: new.content_hash,
            name: new.name,
            description: new.description,
            media_type: new.media_type.unwrap_or_else(|| "application/octet-stream".into()),
            size_bytes: 42,
            dataset_id: new.dataset_id,
            policy_meta: new.policy_meta,
            producer_id: new.producer_id,
            price_satoshis: new.price_satoshis,
            created_at: new.created_at,
        };
        tables.assets.insert(asset.version_id, asset.clone());
        Ok(asset)
    }

    async fn asset(&self, id: VersionId) -> PortResult<Option<Asset>> {
        Ok(self.tables()?.assets.get(&id).cloned())
    }

    async fn set_price(&self, id: VersionId, price: u64, by: Option<ProducerId>, _: Timestamp) -> PortResult<bool> {
        let mut tables = self.tables()?;
        let asset = tables.assets.get_mut(&id).filter(|asset| by.is_none_or(|by| by == asset.producer_id));
        Ok(asset.map(|asset| asset.price_satoshis = price).is_some())
    }
}

#[async_trait]
impl Receipts for World {
    async fn create_receipt(&self, new: &NewReceipt) -> PortResult<Receipt> {
        let mut tables = self.tables()?;
        let asset = tables.assets.get(&new.version_id).ok_or(PortError::NotFound(Missing::Asset))?;
        if new.quota_tier != "standard" && !tables.policies.contains_key(&new.quota_tier) {
            return Err(PortError::NotFound(Missing::QuotaTier));
        }
        let receipt = Receipt {
            receipt_id: new.receipt_id,
            version_id: new.version_id,
            content_hash: asset.content_hash,
            quota_tier: new.quota_tier.clone(),
            status: new.status,
            expires_at: new.expires_at,
            total_satoshis: asset.price_satoshis,
            created_at: new.created_at,
            epoch: 0,
        };
        tables.receipts.insert(receipt.receipt_id, receipt.clone());
        Ok(receipt)
    }

    async fn receipt(&self, id: ReceiptId) -> PortResult<Option<Receipt>> {
        Ok(self.tables()?.receipts.get(&id).cloned())
    }

    async fn set_receipt_status(&self, id: ReceiptId, to: ReceiptStatus, _: Timestamp) -> PortResult<StatusChange> {
        let mut tables = self.tables()?;
        let Some(receipt) = tables.receipts.get_mut(&id) else { return Ok(StatusChange::NotFound) };
        if !receipt.status.may_become(to) {
            return Ok(StatusChange::Refused(receipt.status));
        }
        receipt.status = to;
        receipt.epoch += 1;
        Ok(StatusChange::Changed(receipt.clone()))
    }

    async fn put_quota_policy(&self, policy: &QuotaPolicy, _: Timestamp) -> PortResult<bool> {
        Ok(self.tables()?.policies.insert(policy.policy_name.clone(), policy.clone()).is_none())
    }

    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>> {
        Ok(self.tables()?.policies.values().cloned().collect())
    }

    async fn quota(&self, _: ReceiptId, _: Timestamp) -> PortResult<Option<QuotaView>> {
        unreachable!("{UNUSED}")
    }

    async fn usage(&self, id: ReceiptId, after: Option<UsageId>, limit: u32) -> PortResult<Page<UsageRow>> {
        let tables = self.tables()?;
        let mut rows: Vec<_> = tables.usage.iter().filter(|row| row.receipt_id == id).cloned().collect();
        rows.sort_by_key(|row| row.usage_id);
        rows.retain(|row| after.is_none_or(|after| row.usage_id > after));
        Ok(Page::of(rows, limit))
    }
}

#[async_trait]
impl Changes for World {
    async fn changes(&self, _: Option<ChangeMark>, _: u32) -> PortResult<ChangePage> {
        unreachable!("{UNUSED}")
    }

    async fn note_changes(&self, _: &[Tag]) -> PortResult<()> {
        self.tables().map(drop)
    }

    async fn forget_changes(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl StreamSlots for World {
    async fn take_slot(&self, _: &StreamSlot, _: u32, _: Duration) -> PortResult<SlotGrant> {
        unreachable!("{UNUSED}")
    }

    async fn refresh_slots(&self, _: &[StreamSlot], _: Duration) -> PortResult<()> {
        unreachable!("{UNUSED}")
    }

    async fn release_slot(&self, _: &StreamSlot) -> PortResult<()> {
        unreachable!("{UNUSED}")
    }

    async fn slots(&self, _: ReceiptId) -> PortResult<u32> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl SessionStore for World {
    async fn put_session(&self, _: &Session, _: Duration) -> PortResult<()> {
        unreachable!("{UNUSED}")
    }

    async fn session(&self, _: SessionId) -> PortResult<Option<Session>> {
        unreachable!("{UNUSED}")
    }

    async fn add_progress(
        &self,
        _: SessionId,
        _: u64,
        _: u64,
        _: Timestamp,
        _: Duration,
    ) -> PortResult<Option<SessionProgress>> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl ReplayGuard for World {
    async fn check_replay(&self, once: ReplayKey, _: ReplayTerms) -> PortResult<ReplayCheck> {
        answers(&self.shared_is_down, "shared state")?;
        let mut used = self.used.lock().expect("tests do not panic here");
        Ok(if used.insert(once.name) { ReplayCheck::First } else { ReplayCheck::Again })
    }
}

#[async_trait]
impl InvalidationBus for World {
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()> {
        answers(&self.shared_is_down, "shared state")?;
        for tag in tags {
            // Nobody listens in tests that do not ask.
            let _heard = self.published.send(tag.clone());
        }
        Ok(())
    }

    fn invalidations(&self) -> Invalidations {
        self.published.subscribe()
    }
}

#[async_trait]
impl SharedState for World {
    async fn ping(&self) -> PortResult<()> {
        answers(&self.shared_is_down, "shared state")
    }
}

#[async_trait]
impl Upkeep for World {
    async fn usage_set_aside(&self, _: Option<UsageId>, _: u32) -> PortResult<Vec<SetAside>> {
        unreachable!("{UNUSED}")
    }

    async fn ping(&self) -> PortResult<()> {
        self.tables().map(drop)
    }

    async fn expire_receipts(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn restore_receipts(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn prune_windows(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn drop_usage(&self, _: Timestamp) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn forget_client_keys(&self, _: Timestamp) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn forget_prices(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn prune_nodes(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn prepare(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        unreachable!("{UNUSED}")
    }

    async fn compared(&self) -> PortResult<Vec<LeaseComparison>> {
        Ok(Vec::new())
    }

    async fn unheld(&self) -> PortResult<UnknownLeases> {
        Ok(UnknownLeases::default())
    }

    async fn audit(&self, _: Option<ReceiptId>, _: u32) -> PortResult<AuditPage> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl BlobStore for World {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        unreachable!("{UNUSED}")
    }

    async fn open(&self, _: ContentHash) -> PortResult<StoredBlob> {
        unreachable!("{UNUSED}")
    }

    async fn exists(&self, _: ContentHash) -> PortResult<bool> {
        unreachable!("{UNUSED}")
    }

    async fn ping(&self) -> PortResult<()> {
        answers(&self.storage_is_down, "storage")
    }
}
