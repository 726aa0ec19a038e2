//! A content being written: buffered up to the size of a part, then sent in parts while more arrives.
//!
//! **Bound.** Memory holds the part that is being filled and at most `parts_in_flight` parts that are being sent;
//! `write` waits while that many are. Content that fits one part is sent as one object at the commit, when its hash is
//! known and it may exist already.

use std::{mem, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::try_join;
use penstock_actors::{
    ids::ContentHash,
    model::{LeafHash, leaf_count},
    ports::{BlobSink, PortError, PortResult},
};

use super::{
    error::STORE,
    pending::{Pending, UploadTarget},
    store::StoreContext,
};

pub(super) struct S3Sink {
    store: Arc<StoreContext>,
    place: UploadTarget,
    buffer: BytesMut,
    size_bytes: u64,
    /// `None` while everything fits the buffer.
    pending: Option<Pending>,
}

impl S3Sink {
    pub(super) fn new(store: Arc<StoreContext>, place: UploadTarget) -> Self {
        Self { store, place, buffer: BytesMut::new(), size_bytes: 0, pending: None }
    }

    /// Sends the full buffer, and makes a new one.
    async fn send_part(&mut self) -> PortResult<()> {
        let room = BytesMut::with_capacity(self.store.part_bytes);
        let full = mem::replace(&mut self.buffer, room).freeze();
        match &mut self.pending {
            Some(pending) => pending.part(full).await,
            None => {
                let pending = Pending::in_parts(Arc::clone(&self.store), self.place.clone()).await?;
                self.pending.insert(pending).part(full).await
            }
        }
    }
}

#[async_trait]
impl BlobSink for S3Sink {
    async fn write(&mut self, mut part: Bytes) -> PortResult<()> {
        self.size_bytes += part.len() as u64;
        while !part.is_empty() {
            // Only when more arrives, so that the last part is never empty.
            if self.buffer.len() == self.store.part_bytes {
                self.send_part().await?;
            }
            let room = self.store.part_bytes - self.buffer.len();
            self.buffer.extend_from_slice(&part.split_to(room.min(part.len())));
        }
        match &mut self.pending {
            Some(pending) => pending.keep_alive(self.size_bytes).await,
            None => Ok(()),
        }
    }

    fn replace(&mut self) {
        self.place.replaces = true;
        if let Some(pending) = &mut self.pending {
            pending.replace();
        }
    }

    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        let Self { store, place, buffer, size_bytes, pending } = *self;
        if leaves.len() as u64 != leaf_count(size_bytes) {
            return Err(PortError::rejected(STORE, format!("{} leaves for {size_bytes} bytes", leaves.len())));
        }
        let (pending, is_there) = match pending {
            None => {
                let is_there = is_there(&store, &place, hash);
                let mut pending = Pending::new(Arc::clone(&store), place.clone());
                let (is_there, ()) = try_join(is_there, pending.mark_as(hash, size_bytes)).await?;
                if !is_there {
                    pending.whole(&buffer.freeze()).await?;
                }
                (pending, is_there)
            }
            Some(mut pending) => {
                pending.part(buffer.freeze()).await?;
                let is_there = is_there(&store, &place, hash);
                let (is_there, ()) = try_join(is_there, pending.complete_as(hash, size_bytes)).await?;
                (pending, is_there)
            }
        };
        if is_there {
            pending.discard().await;
            return Ok(());
        }
        pending.publish(hash, leaves).await
    }
}

/// Whether the data is not needed. A copy is always needed: the caller has checked that.
async fn is_there(store: &StoreContext, place: &UploadTarget, hash: ContentHash) -> PortResult<bool> {
    if place.replaces { Ok(false) } else { store.is_intact(hash).await }
}
