//! The blob store: immutable bytes by content hash, with the hash list of their leaves beside them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::PortResult;
use crate::{ids::ContentHash, model::LeafHash};

/// A store of immutable blobs.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a blob whose name is not known yet. Nothing is visible until [`BlobSink::commit`].
    async fn create(&self) -> PortResult<Box<dyn BlobSink>>;

    /// Opens a blob with its hash list.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Corrupt` when the hash list does not fit the blob's size or its own checksum.
    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob>;

    /// Whether a blob is there, without opening it.
    async fn exists(&self, hash: ContentHash) -> PortResult<bool>;

    /// Up to `limit` blobs whose name sorts after `after`, in order, that were written at least `min_age` ago.
    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ContentHash>>;

    /// Takes a blob out of sight. It can be brought back by [`restore`](Self::restore) until [`purge`](Self::purge).
    /// False when there is none.
    async fn retire(&self, hash: ContentHash) -> PortResult<bool>;

    /// Brings a retired blob back.
    async fn restore(&self, hash: ContentHash) -> PortResult<()>;

    /// Removes a retired blob for good. Removing what is not there succeeds.
    async fn purge(&self, hash: ContentHash) -> PortResult<()>;

    /// Removes up to `limit` remains of unfinished uploads that are at least `min_age` old. With `dry_run` it only counts.
    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep>;

    /// Answers when the store can be read and written.
    async fn ping(&self) -> PortResult<()>;
}

/// What a sweep removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    pub files: u64,
    pub bytes: u64,
}

/// A blob being written. Dropping it before [`commit`](Self::commit) leaves nothing that a reader could see, and removes
/// what it can at once.
///
/// The methods may block: they are called from a thread that may.
#[async_trait]
pub trait BlobSink: Send {
    async fn write(&mut self, part: Bytes) -> PortResult<()>;

    /// Makes the bytes durable under their name, with their hash list, and then visible: all or nothing. Where the name
    /// exists, the same bytes are there already and the new ones replace or are dropped.
    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()>;
}

/// An open blob.
pub struct StoredBlob {
    pub size_bytes: u64,
    pub leaves: Arc<[LeafHash]>,
    pub source: Arc<dyn BlobSource>,
}

/// The bytes of an open blob. It stays readable while it is held, even if the blob is removed.
#[async_trait]
pub trait BlobSource: Send + Sync + 'static {
    /// Exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// `Corrupt` when fewer are there.
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes>;

    /// Whether bytes that were right once are right when they are read again: so it is with an open file, and not with what
    /// passes a network each time.
    fn is_steady(&self) -> bool {
        true
    }
}
