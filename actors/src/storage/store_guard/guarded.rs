//! A guarded store, as a blob store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;

use super::{LastCheck, RECENT, StoreGuard, refusal};
use crate::{
    ids::ContentHash,
    model::{LeafHash, PartName, StorageTier},
    ports::{
        BlobCopies, BlobSink, BlobSource, BlobStore, BlobTrash, ListedBlob, PortError, PortResult, StoreMarks,
        StoreTime, StoredBlob, StoredCopy, Sweep, UploadParts,
    },
    storage::store_timings::{StoreOperation, TimedSource},
};

impl StoreGuard {
    fn guarded(self: &Arc<Self>, tier: StorageTier, sink: Box<dyn BlobSink>) -> Box<dyn BlobSink> {
        Box::new(GuardedSink { guard: Arc::clone(self), tier, sink })
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        let began = Instant::now();
        let opened = self.store.open(hash).await;
        // A look-up begins in the hottest tier, and one that fails says no tier.
        let tier = opened.as_ref().map_or(StorageTier::Hot, |blob| blob.tier);
        self.timings.ended(tier, StoreOperation::Open, began, &opened);
        opened.map(|blob| StoredBlob { source: self.timed(tier, blob.source), ..blob })
    }

    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>> {
        let began = Instant::now();
        let opened = self.store.open_copy(hash, tier).await;
        self.timings.ended(tier, StoreOperation::Open, began, &opened);
        let timed = |copy: StoredCopy| StoredCopy { source: self.timed(tier, copy.source), ..copy };
        opened.map(|copy| copy.map(timed))
    }

    fn timed(&self, tier: StorageTier, source: Arc<dyn BlobSource>) -> Arc<dyn BlobSource> {
        Arc::new(TimedSource { source, tier, timings: Arc::clone(&self.timings) })
    }
}

/// A guarded store, as a blob store.
#[derive(Clone)]
pub struct GuardedBlobs(pub Arc<StoreGuard>);

impl GuardedBlobs {
    fn store(&self) -> &dyn StoreMarks {
        &*self.0.store
    }
}

#[async_trait]
impl BlobStore for GuardedBlobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        self.0.check(StorageTier::Hot, RECENT).await?;
        Ok(self.0.guarded(StorageTier::Hot, self.store().create().await?))
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        let missing = match self.0.open(hash).await {
            Err(PortError::NotFound(what)) => what,
            opened => return opened,
        };
        self.0.absent().await?;
        // Callers ask only for content in the index, so this blob does not belong in the trash.
        if self.recover(hash).await? { self.0.open(hash).await } else { Err(PortError::NotFound(missing)) }
    }

    async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        let exists = self.store().exists(hash).await?;
        if !exists {
            self.0.absent().await?;
        }
        Ok(exists)
    }

    async fn forget(&self, hash: ContentHash) {
        self.store().forget(hash).await;
    }

    async fn ping(&self) -> PortResult<()> {
        let seen: Vec<LastCheck> = try_join_all(self.0.tiers.iter().map(|watched| self.0.check_tier(watched))).await?;
        seen.iter().try_for_each(refusal)?;
        self.store().ping().await
    }
}

#[async_trait]
impl BlobCopies for GuardedBlobs {
    fn tiers(&self) -> Vec<StorageTier> {
        self.store().tiers()
    }

    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>> {
        self.0.check(tier, RECENT).await?;
        match self.0.open_copy(hash, tier).await {
            Ok(Some(copy)) => Ok(Some(copy)),
            // A copy that seems damaged or missing may have been read while the store went away.
            other => {
                self.0.check(tier, Duration::ZERO).await?;
                match other {
                    Ok(None) if self.recover(hash).await? => self.0.open_copy(hash, tier).await,
                    other => other,
                }
            }
        }
    }

    async fn create_copy(&self, tier: StorageTier) -> PortResult<Box<dyn BlobSink>> {
        self.0.check(tier, RECENT).await?;
        Ok(self.0.guarded(tier, self.store().create_copy(tier).await?))
    }

    async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        self.0.check(tier, RECENT).await?;
        self.store().demote_copy(hash, tier).await
    }

    async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()> {
        self.0.check_all(RECENT).await?;
        self.store().remove_copy(hash, tier).await
    }
}

#[async_trait]
impl BlobTrash for GuardedBlobs {
    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().list(after, min_age, limit).await
    }

    async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        self.0.check_all(RECENT).await?;
        self.store().retire(hash).await
    }

    async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        self.store().restore(hash).await
    }

    async fn discard(&self, hash: ContentHash) -> PortResult<()> {
        self.0.check_all(RECENT).await?;
        self.store().discard(hash).await
    }

    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().trashed(after, limit).await
    }

    async fn recover(&self, hash: ContentHash) -> PortResult<bool> {
        let recovered = self.store().recover(hash).await?;
        if recovered {
            tracing::warn!(content_hash = %hash, "a blob is back from the trash: the index knows it");
        }
        Ok(recovered)
    }

    async fn purge(&self, hash: ContentHash) -> PortResult<u64> {
        self.0.check_all(RECENT).await?;
        self.store().purge(hash).await
    }

    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().sweep(min_age, limit, dry_run).await
    }

    async fn clocks(&self) -> PortResult<Vec<StoreTime>> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().clocks().await
    }
}

#[async_trait]
impl UploadParts for GuardedBlobs {
    async fn put_part(&self, part: PartName, bytes: Bytes) -> PortResult<()> {
        self.0.check(StorageTier::Hot, RECENT).await?;
        self.store().put_part(part, bytes).await
    }

    async fn read_part(&self, part: PartName) -> PortResult<Bytes> {
        match self.store().read_part(part).await {
            Err(PortError::NotFound(missing)) => {
                self.0.absent().await?;
                Err(PortError::NotFound(missing))
            }
            read => read,
        }
    }

    async fn remove_part(&self, part: PartName) -> PortResult<()> {
        self.0.check(StorageTier::Hot, RECENT).await?;
        self.store().remove_part(part).await
    }
}

/// A blob being written. It becomes visible only while the store still belongs to the installation.
struct GuardedSink {
    guard: Arc<StoreGuard>,
    tier: StorageTier,
    sink: Box<dyn BlobSink>,
}

#[async_trait]
impl BlobSink for GuardedSink {
    async fn write(&mut self, part: Bytes) -> PortResult<()> {
        let began = Instant::now();
        let written = self.sink.write(part).await;
        self.guard.timings.ended(self.tier, StoreOperation::Write, began, &written);
        written
    }

    fn replace(&mut self) {
        self.sink.replace();
    }

    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        let Self { guard, tier, sink } = *self;
        guard.check(tier, RECENT).await?;
        let began = Instant::now();
        let committed = sink.commit(hash, leaves).await;
        guard.timings.ended(tier, StoreOperation::Commit, began, &committed);
        committed
    }
}
