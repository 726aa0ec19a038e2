//! The trash: manifests of contents that the index did not know, hidden. Their data stays in place, named by them,
//! until they are recovered or purged; a purge leaves the data to a sweep.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::try_join_all;
use penstock_actors::{
    ids::ContentHash,
    ports::{BlobTrash, ListedBlob, PortResult, StoreTime, Sweep},
};

use super::{
    S3Blobs,
    bucket::Bucket,
    client::Expected,
    housekeeping::{aged, listed},
    manifest,
    store::{StoreContext, found, size_of, written},
};

#[async_trait]
impl BlobTrash for S3Blobs {
    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.on_io(async move |store| store.list(after, min_age, limit).await).await
    }

    async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        self.on_io(async move |store| store.retire(hash).await).await
    }

    async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        self.on_io(async move |store| store.restore(hash).await).await
    }

    async fn discard(&self, hash: ContentHash) -> PortResult<()> {
        self.on_io(async move |store| store.discard(hash).await).await
    }

    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.on_io(async move |store| store.trashed(after, limit).await).await
    }

    async fn recover(&self, hash: ContentHash) -> PortResult<bool> {
        self.on_io(async move |store| store.recover(hash).await).await
    }

    async fn purge(&self, hash: ContentHash) -> PortResult<u64> {
        self.on_io(async move |store| store.purge(hash).await).await
    }

    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
        self.on_io(async move |store| {
            if !dry_run {
                store.undo_forgotten_retirements(min_age, limit).await?;
            }
            store.sweep(min_age, limit, dry_run).await
        })
        .await
    }

    async fn clocks(&self) -> PortResult<Vec<StoreTime>> {
        self.on_io(async move |store| store.clocks().await).await
    }
}

impl StoreContext {
    /// Puts retired manifests into the trash.
    pub(super) async fn discard(&self, hash: ContentHash) -> PortResult<()> {
        try_join_all(self.tiers.iter().map(|bucket| self.discard_in(bucket, hash))).await.map(drop)
    }

    async fn discard_in(&self, bucket: &Bucket, hash: ContentHash) -> PortResult<()> {
        let (retired, trashed) = (self.keys.retired(hash), self.keys.trashed(hash));
        let Some(whole) = found(bucket.fetch(&retired, manifest::LARGEST).await)? else { return Ok(()) };
        // An earlier manifest in the trash names other data, which has no reference once the manifest is overwritten.
        if let Some(earlier) = found(bucket.fetch(&trashed, manifest::LARGEST).await)?
            && earlier.bytes != whole.bytes
        {
            self.leave_to_sweep(bucket, &earlier.bytes, hash).await?;
        }
        bucket.put(&trashed, &whole.bytes, Expected::Anything).await?;
        Ok(bucket.delete(&retired).await?)
    }

    /// Contents in the trash of any tier.
    pub(super) async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
        let after = after.map(|hash| self.keys.trashed(hash)).unwrap_or_default();
        let prefix = self.keys.trash();
        let pages = self.tiers.iter().map(|bucket| aged(bucket, &prefix, &after, Duration::ZERO, limit));
        let pages = try_join_all(pages).await?;
        Ok(ListedBlob::merged(pages.iter().flatten().filter_map(listed).collect(), limit))
    }

    /// Recovers manifests; false when none was here, or there are visible ones.
    pub(super) async fn recover(&self, hash: ContentHash) -> PortResult<bool> {
        let key = self.keys.trashed(hash);
        let here = try_join_all(self.tiers.iter().map(|bucket| size_of(bucket, &key))).await?;
        if here.iter().all(Option::is_none) || self.exists(hash).await? {
            return Ok(false);
        }
        let recovered = try_join_all(self.tiers.iter().map(|bucket| self.recover_in(bucket, hash))).await?;
        self.forget(hash).await;
        Ok(recovered.contains(&true))
    }

    async fn recover_in(&self, bucket: &Arc<Bucket>, hash: ContentHash) -> PortResult<bool> {
        let (blob, trashed) = (self.keys.blob(hash), self.keys.trashed(hash));
        let Some(whole) = found(bucket.fetch(&trashed, manifest::LARGEST).await)? else { return Ok(false) };
        // Checked first, because not every storage supports conditional writes.
        if size_of(bucket, &blob).await?.is_some() || !written(bucket.put(&blob, &whole.bytes, Expected::Absent).await)?
        {
            return Ok(false);
        }
        bucket.delete(&trashed).await?;
        Ok(true)
    }

    /// Purges manifests; returns the bytes of their data, which stays until a sweep that runs after all possible
    /// readers have ended.
    pub(super) async fn purge(&self, hash: ContentHash) -> PortResult<u64> {
        let key = self.keys.trashed(hash);
        let purged = try_join_all(self.tiers.iter().map(|bucket| self.forget_manifest(bucket, &key, hash))).await?;
        Ok(purged.iter().sum())
    }
}
