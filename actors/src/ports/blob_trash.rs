//! The way of blobs out of the store: the list of blobs, retirement, the trash, and the sweep of unfinished uploads.
//!
//! A blob is visible, then retired, then in the trash, then gone; until the last step it can come back.
//!
//! **Caller:** the Janitor, which alone decides what leaves; `GuardedBlobs` only recovers. **Errors:** a step that fails is
//! repeated in a later pass; whatever its state, no blob is lost by it. **Bound:** each list and each sweep takes a limit.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{ids::ContentHash, model::StorageTier};

/// Blobs that leave the store.
#[async_trait]
pub trait BlobTrash: Send + Sync + 'static {
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

    /// The time by which each tier dates what is written to it now, where a storage with a clock of its own does. Reading it
    /// writes a small object.
    async fn clocks(&self) -> PortResult<Vec<StoreTime>> {
        Ok(Vec::new())
    }
}

/// The time of a tier's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTime {
    pub tier: StorageTier,
    pub now: Timestamp,
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
