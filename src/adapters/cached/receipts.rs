//! Receipts by id, and the quota policies, all in one entry.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    cache::TieredCache,
    ids::{ReceiptId, UsageId},
    model::{QuotaPolicy, Receipt, ReceiptStatus, UsageRow},
    ports::{CacheName, CacheTag, NewReceipt, Page, PortResult, QuotaView, Receipts, StatusChange, Tag},
};
use serde::{Deserialize, Serialize};

/// Receipts and policies, read from the cache.
pub struct CachedReceipts {
    inner: Arc<dyn Receipts>,
    cache: TieredCache,
}

impl CachedReceipts {
    pub fn new(inner: Arc<dyn Receipts>, cache: TieredCache) -> Self {
        Self { inner, cache }
    }
}

/// A receipt in its cached form: with its epoch, which clients do not see.
#[derive(Serialize, Deserialize)]
struct CachedReceipt {
    receipt: Receipt,
    epoch: i64,
}

#[async_trait]
impl Receipts for CachedReceipts {
    async fn create_receipt(&self, new: &NewReceipt) -> PortResult<Receipt> {
        let made = self.inner.create_receipt(new).await;
        self.cache.changed(&Tag::Receipt(new.receipt_id)).await;
        made
    }

    async fn receipt(&self, id: ReceiptId) -> PortResult<Option<Receipt>> {
        let inner = Arc::clone(&self.inner);
        let load = move || async move {
            let receipt = inner.receipt(id).await?;
            Ok(receipt.map(|receipt| CachedReceipt { epoch: receipt.epoch, receipt }))
        };
        let kept = self.cache.get(CacheName::Receipts, &id.to_string(), &[CacheTag::receipt(id)], load).await?;
        Ok(kept.map(|kept| Receipt { epoch: kept.epoch, ..kept.receipt.clone() }))
    }

    async fn set_receipt_status(&self, id: ReceiptId, to: ReceiptStatus, now: Timestamp) -> PortResult<StatusChange> {
        let change = self.inner.set_receipt_status(id, to, now).await;
        // A refused change also shows that the cached entry may be old.
        self.cache.changed(&Tag::Receipt(id)).await;
        change
    }

    async fn put_quota_policy(&self, policy: &QuotaPolicy, now: Timestamp) -> PortResult<bool> {
        let put = self.inner.put_quota_policy(policy, now).await;
        self.cache.changed(&Tag::QuotaPolicy(policy.policy_name.clone())).await;
        put
    }

    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>> {
        let inner = Arc::clone(&self.inner);
        let load = move || async move { inner.policies().await.map(Some) };
        let policies = self.cache.get(CacheName::Policies, "all", &[CacheTag::POLICIES], load).await?;
        Ok(policies.map(Arc::unwrap_or_clone).unwrap_or_default())
    }

    async fn quota(&self, id: ReceiptId, now: Timestamp) -> PortResult<Option<QuotaView>> {
        self.inner.quota(id, now).await
    }

    async fn usage(&self, id: ReceiptId, after: Option<UsageId>, limit: u32) -> PortResult<Page<UsageRow>> {
        self.inner.usage(id, after, limit).await
    }
}
