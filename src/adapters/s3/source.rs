//! An open content: ranged reads of its data, wherever that is stored by now.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    ids::ContentHash,
    ports::{BlobSource, PortError, PortResult},
};

use super::{
    error::S3FailureKind,
    on_io,
    store::{Placed, StoreContext},
};

/// Any number of streams may share it: each read is a request of its own.
#[derive(Clone)]
pub(super) struct S3Source {
    store: Arc<StoreContext>,
    hash: ContentHash,
    /// Follows the data to another tier or to a new copy.
    place: Arc<Mutex<Arc<Placed>>>,
}

impl S3Source {
    pub(super) fn new(store: Arc<StoreContext>, hash: ContentHash, placed: Arc<Placed>) -> Self {
        Self { store, hash, place: Arc::new(Mutex::new(placed)) }
    }

    async fn read(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let place = Arc::clone(&self.place.lock().unwrap_or_else(PoisonError::into_inner));
        let end = offset.saturating_add(len as u64);
        let size = place.manifest.size_bytes;
        if end > size {
            return Err(PortError::Corrupt(format!("blob {} ends before byte {end}", self.hash)));
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        let missing = match place.bucket.read(&place.manifest.data, offset..end, size).await {
            Ok(bytes) => return Ok(bytes),
            Err(failure) if matches!(failure.kind, S3FailureKind::NotFound | S3FailureKind::Range) => failure,
            Err(failure) => return Err(failure.into()),
        };
        // The cached manifest is out of date: the content was moved to another tier, was repaired, or is gone.
        let current = self.store.open_afresh(self.hash).await?;
        if current.manifest.data == place.manifest.data && current.bucket.tier == place.bucket.tier {
            self.store.forget(self.hash).await;
            return Err(missing.into());
        }
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&current);
        Ok(current.bucket.read(&current.manifest.data, offset..end, current.manifest.size_bytes).await?)
    }
}

#[async_trait]
impl BlobSource for S3Source {
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let source = self.clone();
        on_io(&self.store.io, async move { source.read(offset, len).await }).await
    }

    fn is_steady(&self) -> bool {
        false
    }
}
