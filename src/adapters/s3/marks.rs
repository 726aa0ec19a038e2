//! The mark of each bucket's prefix, which names the installation that owns the store.

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use penstock_actors::{
    ids::{ContentHash, InstallationId, StoreId},
    model::StorageTier,
    ports::{Mark, PortResult, StoreMarks},
};
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use super::{
    S3Blobs,
    client::Expected,
    keys,
    store::{StoreContext, found, written},
};
use crate::adapters::store_mark;

#[async_trait]
impl StoreMarks for S3Blobs {
    fn place(&self, tier: StorageTier) -> String {
        let place = self.store.places.iter().find(|(of, _)| *of == tier);
        place.map(|(_, place)| place.clone()).unwrap_or_default()
    }

    async fn mark(&self, tier: StorageTier) -> PortResult<Mark> {
        self.on_io(async move |store| store.mark(tier).await).await
    }

    /// By the installation, the bucket and the prefix. Not every storage supports conditional writes, so two instances that start at
    /// once may both write the mark; both then write the same mark.
    fn identify(&self, tier: StorageTier, of: InstallationId) -> StoreId {
        let digest = Sha256::digest(format!("{of} {}", self.place(tier)));
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        StoreId::from_uuid(Builder::from_custom_bytes(id).into_uuid())
    }

    async fn set_mark(&self, tier: StorageTier, of: InstallationId, id: StoreId, replace: bool) -> PortResult<()> {
        self.on_io(async move |store| store.set_mark(tier, store_mark::encode(of, id), replace).await).await
    }

    /// Keys need no folders.
    async fn prepare(&self, _: StorageTier) -> PortResult<()> {
        Ok(())
    }

    async fn sample(&self, tier: StorageTier, after: ContentHash, limit: usize) -> PortResult<Vec<ContentHash>> {
        self.on_io(async move |store| {
            let listed = store.bucket(tier)?.list(&store.keys.blobs(), &store.keys.blob(after), limit).await?;
            Ok(listed.iter().filter_map(|listed| keys::content(&listed.key)).collect())
        })
        .await
    }
}

impl StoreContext {
    async fn mark(&self, tier: StorageTier) -> PortResult<Mark> {
        let bucket = self.bucket(tier)?;
        if let Some(whole) = found(bucket.fetch(&self.keys.mark(), store_mark::LARGEST).await)? {
            return Ok(store_mark::decode(&whole.bytes));
        }
        let folders = self.keys.folders();
        let first = try_join_all(folders.iter().map(|folder| bucket.list(folder, "", 1))).await?;
        Ok(Mark::None { is_empty: first.iter().all(Vec::is_empty) })
    }

    async fn set_mark(&self, tier: StorageTier, text: String, replace: bool) -> PortResult<()> {
        let (bucket, key) = (self.bucket(tier)?, self.keys.mark());
        let body = Bytes::from(text);
        // Checked first, because not every storage supports conditional writes.
        if !replace && found(bucket.head(&key).await)?.is_some() {
            return Ok(());
        }
        let expected = if replace { Expected::Anything } else { Expected::Absent };
        // Another instance may have been first: the mark is then read again.
        written(bucket.put(&key, &body, expected).await)?;
        Ok(())
    }
}
