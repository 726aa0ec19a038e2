//! The blob store: immutable bytes by content hash, with the hash list of their leaves beside them.
//!
//! It has one to three tiers. A content is one content however many tiers have a copy of it, and is read from the
//! hottest usable copy. Moves and repairs name the tier of a copy, by [`BlobCopies`](super::BlobCopies); the Janitor removes
//! blobs by [`BlobTrash`](super::BlobTrash). One adapter implements all three.
//!
//! **Callers:** `ContentStore` reads, `Ingest` writes, and the health check asks whether the store answers. **Errors:**
//! `Unavailable` says nothing about a blob; `NotFound` means that no tier has it. **Bound:** no call holds more of a blob in
//! memory than the caller gives or asks for, except parts of an upload that are on their way.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::PortResult;
use crate::{
    ids::ContentHash,
    model::{LeafHash, StorageTier},
};

/// A store of immutable blobs.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a blob whose name is not known yet. Nothing is visible before [`BlobSink::commit`].
    async fn create(&self) -> PortResult<Box<dyn BlobSink>>;

    /// Opens a blob with its hash list.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Corrupt` when the hash list does not fit the blob's size or its own checksum.
    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob>;

    /// Whether a blob exists, without opening it.
    async fn exists(&self, hash: ContentHash) -> PortResult<bool>;

    /// Drops what this instance remembers about the place of a content, since it may be outdated.
    async fn forget(&self, _hash: ContentHash) {}

    /// Succeeds when the store can be read and written.
    async fn ping(&self) -> PortResult<()>;
}

/// A blob being written. Dropping it before [`commit`](Self::commit) leaves nothing that a reader could see, and
/// removes at once as much as it can.
///
/// The methods do not block their thread: uploads share a few.
#[async_trait]
pub trait BlobSink: Send {
    async fn write(&mut self, part: Bytes) -> PortResult<()>;

    /// Makes the commit replace an existing blob of the same name in the same tier: it may look intact and not be. This
    /// is always so for a [copy in one tier](super::BlobCopies::create_copy).
    fn replace(&mut self);

    /// Makes the bytes durable under their name, with their hash list, and then visible: all or nothing. An existing
    /// blob with that name has the same bytes; the new ones replace them or are dropped. They are dropped when only a
    /// colder tier has them, in a copy that readers use.
    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()>;
}

/// An open blob.
pub struct StoredBlob {
    /// Where the copy is.
    pub tier: StorageTier,
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
    /// `Corrupt` when there are fewer.
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes>;

    /// Whether bytes that were right once are right when they are read again: true for an open file, and false for
    /// reads over a network.
    fn is_steady(&self) -> bool {
        true
    }
}
