//! The blob store: immutable bytes by content hash, with the hash list of their leaves beside them.
//!
//! It has one to three tiers. A content is one content however many tiers have a copy of it, and is read from the hottest one
//! whose copy can be used. What moves and mends copies names their tier; nobody else does.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::ContentHash,
    model::{LeafHash, Tier},
};

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

    /// Up to `limit` blobs whose name sorts after `after`, in order, that were written at least `min_age` ago; with the time when
    /// the oldest copy was written.
    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ListedBlob>>;

    /// Takes a blob out of sight. It can be brought back by [`restore`](Self::restore) until [`discard`](Self::discard).
    /// False when there is none.
    async fn retire(&self, hash: ContentHash) -> PortResult<bool>;

    /// Brings a retired blob back.
    async fn restore(&self, hash: ContentHash) -> PortResult<()>;

    /// Puts a retired blob into the trash, from which it can be brought back by [`recover`](Self::recover) until
    /// [`purge`](Self::purge). That there is none is as good.
    async fn discard(&self, hash: ContentHash) -> PortResult<()>;

    /// Up to `limit` blobs in the trash whose name sorts after `after`, in order; with the time when they came there.
    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>>;

    /// Brings a blob back from the trash; false when it is not there, or there is one of its name in sight.
    async fn recover(&self, hash: ContentHash) -> PortResult<bool>;

    /// Removes a blob that is in the trash for good; its bytes. Removing what is not there succeeds.
    async fn purge(&self, hash: ContentHash) -> PortResult<u64>;

    /// Removes up to `limit` remains of unfinished uploads that are at least `min_age` old. With `dry_run` it only counts.
    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep>;

    /// The tiers that there are, the hottest first; the hot one, which takes new content, is always among them.
    fn tiers(&self) -> Vec<Tier>;

    /// Opens the bytes of the copy in one tier as they are, whatever is kept beside them; `None` when there is none.
    ///
    /// # Errors
    /// `Corrupt` when what is left of the copy does not lead to any bytes.
    async fn open_copy(&self, hash: ContentHash, tier: Tier) -> PortResult<Option<StoredCopy>>;

    /// Begins a copy in one tier. At its commit it takes the place of a copy that is there, whatever that is like.
    async fn create_copy(&self, tier: Tier) -> PortResult<Box<dyn BlobSink>>;

    /// Sends new readers elsewhere: from now on this copy is used only where no other can be. True when there is one that was
    /// used until now. Whoever has it open goes on.
    async fn leave_copy(&self, hash: ContentHash, tier: Tier) -> PortResult<bool>;

    /// Removes the copy in one tier, or what is left of it. Removing what is not there succeeds.
    async fn remove_copy(&self, hash: ContentHash, tier: Tier) -> PortResult<()>;

    /// What this instance remembers of where a content is may be out of date.
    async fn forget(&self, _hash: ContentHash) {}

    /// Answers when the store can be read and written.
    async fn ping(&self) -> PortResult<()>;
}

/// A blob as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedBlob {
    pub hash: ContentHash,
    /// Since when it is there, by the store's clock.
    pub since: Timestamp,
}

impl ListedBlob {
    /// One page of what several tiers list: a blob in more than one of them is listed once, since the earliest time.
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
    /// Unfinished uploads that the storage refuses to remove: they are there, and tried again rarely.
    pub refused: u64,
}

/// A blob being written. Dropping it before [`commit`](Self::commit) leaves nothing that a reader could see, and removes
/// what it can at once.
///
/// The methods may block: they are called from a thread that may.
#[async_trait]
pub trait BlobSink: Send {
    async fn write(&mut self, part: Bytes) -> PortResult<()>;

    /// From now on the bytes are to be kept whatever is there under their name, and in its place where they are in the same tier: what
    /// looks intact may not be. So it is with every [copy in one tier](BlobStore::create_copy).
    fn replace(&mut self);

    /// Makes the bytes durable under their name, with their hash list, and then visible: all or nothing. Where the name
    /// exists, the same bytes are there already, and the new ones replace them or are dropped; they are dropped where a colder tier
    /// alone has them, in a copy that readers use.
    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()>;
}

/// An open blob.
pub struct StoredBlob {
    pub size_bytes: u64,
    pub leaves: Arc<[LeafHash]>,
    pub source: Arc<dyn BlobSource>,
}

/// The copy of a blob in one tier, as it is.
pub struct StoredCopy {
    /// Bytes that are there.
    pub size_bytes: u64,
    /// Whether what is kept beside the bytes is whole, and fits their number: without it readers cannot use them.
    pub is_usable: bool,
    /// Whether readers were sent elsewhere.
    pub is_left: bool,
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
