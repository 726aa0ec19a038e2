//! The parts of resumable uploads: one object each, in the hot bucket.

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    model::PartName,
    ports::{Missing, PART_BYTES, PortError, PortResult, UploadParts},
};

use super::{S3Blobs, store::found};

#[async_trait]
impl UploadParts for S3Blobs {
    async fn put_part(&self, part: PartName, bytes: Bytes) -> PortResult<()> {
        self.on_io(async move |store| {
            let slowest = store.slowest_sending(bytes.len());
            Ok(store.hot.put_data(&store.keys.part(part), &bytes, slowest).await?)
        })
        .await
    }

    async fn read_part(&self, part: PartName) -> PortResult<Bytes> {
        self.on_io(async move |store| {
            let whole = found(store.hot.fetch(&store.keys.part(part), PART_BYTES).await)?;
            whole.map(|whole| whole.bytes).ok_or(PortError::NotFound(Missing::Blob))
        })
        .await
    }

    async fn remove_part(&self, part: PartName) -> PortResult<()> {
        self.on_io(async move |store| {
            found(store.hot.delete(&store.keys.part(part)).await)?;
            Ok(())
        })
        .await
    }
}
