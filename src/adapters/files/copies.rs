//! The copy of a content in one tier, for verifying, repairing and moving copies.

use std::sync::Arc;

use async_trait::async_trait;
use penstock_actors::{
    ids::ContentHash,
    model::StorageTier,
    ports::{BlobCopies, BlobSink, PortError, PortResult, StoredCopy},
};

use super::{FileBlobs, checked_list, folder, is_there, open_file, size_of, source::FileSource};

#[async_trait]
impl BlobCopies for FileBlobs {
    fn tiers(&self) -> Vec<StorageTier> {
        self.tiers.iter().map(|root| root.tier).collect()
    }

    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>> {
        let io = self.io.clone();
        self.blocking_in(tier, move |layout| {
            let Some(file) = open_file(layout, hash)? else { return Ok(None) };
            let size_bytes = size_of(&file, layout, hash)?;
            let is_usable = match checked_list(layout, hash, size_bytes) {
                Ok(_) => true,
                Err(PortError::Corrupt(_)) => false,
                // It was removed in between.
                Err(PortError::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let is_demoted = is_there(&layout.left(hash))?;
            Ok(Some(StoredCopy {
                size_bytes,
                is_usable,
                is_demoted,
                source: Arc::new(FileSource::new(file, hash, io)),
            }))
        })
        .await
    }

    async fn create_copy(&self, tier: StorageTier) -> PortResult<Box<dyn BlobSink>> {
        self.sink(tier, None).await
    }

    async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        self.blocking_in(tier, move |layout| folder::leave(layout, hash)).await
    }

    async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()> {
        self.blocking_in(tier, move |layout| folder::remove_all_of(layout, hash)).await
    }
}
