//! The blob store: immutable bytes by content hash, with the hash list of their leaves beside them.
//!
//! It has one to three tiers. A content is one content however many tiers have a copy of it, and is read from the
//! hottest usable copy. Only moves and repairs name the tier of a copy.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

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

    /// Up to `limit` blobs whose name sorts after `after`, in order, that were written at least `min_age` ago; each
    /// with the time of its oldest copy.
    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ListedBlob>>;

    /// Hides a blob. [`restore`](Self::restore) can bring it back until [`discard`](Self::discard). False when there is none.
    async fn retire(&self, hash: ContentHash) -> PortResult<bool>;

    /// Brings a retired blob back.
    async fn restore(&self, hash: ContentHash) -> PortResult<()>;

    /// Moves a retired blob to the trash. [`recover`](Self::recover) can bring it back until [`purge`](Self::purge).
    /// Succeeds when there is none.
    async fn discard(&self, hash: ContentHash) -> PortResult<()>;

    /// Up to `limit` blobs in the trash whose name sorts after `after`, in order; each with the time of its arrival there.
    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>>;

    /// Brings a blob back from the trash; false when it is not there, or a visible blob has its name.
    async fn recover(&self, hash: ContentHash) -> PortResult<bool>;

    /// Removes a blob from the trash for good; returns its bytes. Succeeds when there is none.
    async fn purge(&self, hash: ContentHash) -> PortResult<u64>;

    /// Removes up to `limit` remains of unfinished uploads that are at least `min_age` old. With `dry_run` it only counts.
    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep>;

    /// The configured tiers, hottest first. The hot one, which takes new content, is always among them.
    fn tiers(&self) -> Vec<StorageTier>;

    /// Opens the bytes of the copy in one tier, whatever the state of the data beside them; `None` when there is no copy.
    ///
    /// # Errors
    /// `Corrupt` when the remains of the copy lead to no bytes.
    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>>;

    /// Begins a copy in one tier. Its commit replaces an existing copy there, whatever its state.
    async fn create_copy(&self, tier: StorageTier) -> PortResult<Box<dyn BlobSink>>;

    /// Switches new readers to other copies: from now on this copy is used only when no other is usable. Readers that
    /// have it open go on. True when there is a copy that was in use until now.
    async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool>;

    /// Removes the copy in one tier, or its remains. Succeeds when there is none.
    async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()>;

    /// Drops what this instance remembers about the place of a content, since it may be outdated.
    async fn forget(&self, _hash: ContentHash) {}

    /// Succeeds when the store can be read and written.
    async fn ping(&self) -> PortResult<()>;
}

/// A blob in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedBlob {
    pub hash: ContentHash,
    /// When it was written, by the store's clock.
    pub since: Timestamp,
}

impl ListedBlob {
    /// One page of the lists of several tiers: a blob in more than one of them is listed once, with the earliest time.
    pub fn merged(mut all: Vec<Self>, limit: usize) -> Vec<Self> {
        all.sort_unstable();
        all.dedup_by_key(|listed| listed.hash);
        all.truncate(limit);
        all
    }
}

/// What a sweep removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    pub files: u64,
    pub bytes: u64,
    /// Unfinished uploads that the storage refuses to remove: they stay, and are tried again rarely.
    pub refused: u64,
}

/// A blob being written. Dropping it before [`commit`](Self::commit) leaves nothing that a reader could see, and
/// removes at once as much as it can.
///
/// The methods may block: they are called from a thread that may.
#[async_trait]
pub trait BlobSink: Send {
    async fn write(&mut self, part: Bytes) -> PortResult<()>;

    /// Makes the commit replace an existing blob of the same name in the same tier: it may look intact and not be. This
    /// is always so for a [copy in one tier](BlobStore::create_copy).
    fn replace(&mut self);

    /// Makes the bytes durable under their name, with their hash list, and then visible: all or nothing. An existing
    /// blob with that name has the same bytes; the new ones replace them or are dropped. They are dropped when only a
    /// colder tier has them, in a copy that readers use.
    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()>;
}

/// An open blob.
pub struct StoredBlob {
    pub size_bytes: u64,
    pub leaves: Arc<[LeafHash]>,
    pub source: Arc<dyn BlobSource>,
}

/// The copy of a blob in one tier, in its present state.
pub struct StoredCopy {
    /// The number of bytes it has.
    pub size_bytes: u64,
    /// Whether the data beside the bytes is whole and fits their number: without it readers cannot use them.
    pub is_usable: bool,
    /// Whether readers were switched to another copy.
    pub is_demoted: bool,
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
