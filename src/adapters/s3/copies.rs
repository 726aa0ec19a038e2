//! The copy of a content in one tier, for verifying, repairing and moving copies.
//!
//! When readers are sent away from a copy, its manifest is retired, so that only explicit look-ups find it; its data
//! stays in place for open readers, until a sweep that runs after all of them have ended.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    ids::ContentHash,
    model::StorageTier,
    ports::{BlobCopies, BlobSink, BlobSource, PortError, PortResult, StoredCopy},
};

use super::{
    S3Blobs,
    bucket::Bucket,
    manifest, on_io,
    pending::UploadTarget,
    sink::S3Sink,
    store::{Placed, StoreContext, found, size_of},
};

#[async_trait]
impl BlobCopies for S3Blobs {
    fn tiers(&self) -> Vec<StorageTier> {
        self.store.tiers.iter().map(|bucket| bucket.tier).collect()
    }

    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>> {
        self.on_io(async move |store| {
            let Some(copy) = store.copy(hash, tier).await? else { return Ok(None) };
            let ExistingCopy { placed, size_bytes, is_demoted } = copy;
            let is_usable = size_bytes == placed.manifest.size_bytes;
            let source = Arc::new(CopySource::new(store, Arc::new(placed), size_bytes));
            Ok(Some(StoredCopy { size_bytes, is_usable, is_demoted, source }))
        })
        .await
    }

    async fn create_copy(&self, tier: StorageTier) -> PortResult<Box<dyn BlobSink>> {
        let place = UploadTarget::of_copy(&self.store, tier)?;
        Ok(Box::new(S3Sink::new(Arc::clone(&self.store), place)))
    }

    async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        self.on_io(async move |store| store.demote_copy(hash, tier).await).await
    }

    async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()> {
        self.on_io(async move |store| store.remove_copy(hash, tier).await).await
    }
}

/// An existing copy.
pub(super) struct ExistingCopy {
    pub(super) placed: Placed,
    /// The size of the stored data.
    pub(super) size_bytes: u64,
    pub(super) is_demoted: bool,
}

impl StoreContext {
    /// The copy in a tier; `None` when the tier has none, or the data of its copy is gone.
    pub(super) async fn copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<ExistingCopy>> {
        let bucket = self.bucket(tier)?;
        let (placed, is_demoted) = match self.manifest_in(bucket, hash).await? {
            Some(placed) => (placed, false),
            None => match self.retired_in(bucket, hash).await? {
                Some(placed) => (placed, true),
                None => return Ok(None),
            },
        };
        let size_bytes = size_of(bucket, &placed.manifest.data).await?;
        Ok(size_bytes.map(|size_bytes| ExistingCopy { placed, size_bytes, is_demoted }))
    }

    async fn retired_in(&self, bucket: &Arc<Bucket>, hash: ContentHash) -> PortResult<Option<Placed>> {
        let whole = found(bucket.fetch(&self.keys.retired(hash), manifest::LARGEST).await)?;
        let Some(whole) = whole else { return Ok(None) };
        let manifest = self.manifest(&whole.bytes, hash)?;
        Ok(Some(Placed { bucket: Arc::clone(bucket), manifest }))
    }

    pub(super) async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        let bucket = self.bucket(tier)?;
        if size_of(bucket, &self.keys.blob(hash)).await?.is_none() {
            return Ok(false);
        }
        // If the copy was demoted before and made again, the earlier data has no reference once its manifest is
        // overwritten.
        self.purge_in(bucket, hash).await?;
        let left = self.retire_in(bucket, hash).await;
        self.forget(hash).await;
        Ok(left?)
    }

    /// Hides a copy, and leaves its data to the sweep.
    pub(super) async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()> {
        let bucket = self.bucket(tier)?;
        self.demote_copy(hash, tier).await?;
        self.purge_in(bucket, hash).await
    }
}

/// The data of one copy, wherever else the content may be stored.
#[derive(Clone)]
pub(super) struct CopySource {
    store: Arc<StoreContext>,
    placed: Arc<Placed>,
    /// The size of the stored data, which may differ from the manifest.
    size_bytes: u64,
}

impl CopySource {
    pub(super) fn new(store: Arc<StoreContext>, placed: Arc<Placed>, size_bytes: u64) -> Self {
        Self { store, placed, size_bytes }
    }
}

#[async_trait]
impl BlobSource for CopySource {
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let end = offset.saturating_add(len as u64);
        if end > self.size_bytes {
            return Err(PortError::Corrupt(format!("the copy ends before byte {end}")));
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        let Self { store, placed, size_bytes } = self.clone();
        let io = store.io.clone();
        on_io(&io, async move { Ok(placed.bucket.read(&placed.manifest.data, offset..end, size_bytes).await?) }).await
    }

    fn is_steady(&self) -> bool {
        false
    }
}
