//! Records about stored copies: results of verification, quarantine, and last use of content.
//!
//! The blob store knows where copies are; no record is needed to read one. A lost record costs a verification, never a
//! byte. Moves between tiers are in [`StorageMoves`], and the progress of tasks over all content in [`StorageTasks`].

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};

use super::{PortResult, StorageMoves, StorageTasks, TaskLeases};
use crate::{
    ids::ContentHash,
    model::{HistoryPosition, Quarantined, StoredContent, Verification, VerificationKind},
};

/// The history of verifications. All instances use it concurrently.
#[async_trait]
pub trait Verifications: Send + Sync + 'static {
    /// Records results of verification. Rows that exist are skipped.
    async fn note_verifications(&self, rows: &[Verification]) -> PortResult<()>;

    /// Up to `limit` verifications of a content, of one kind or of all, newest first, after a position.
    async fn verifications(
        &self,
        hash: ContentHash,
        kind: Option<VerificationKind>,
        after: Option<HistoryPosition>,
        limit: u32,
    ) -> PortResult<Vec<Verification>>;

    /// Forgets up to `limit` verifications from before a time, oldest first; returns how many.
    async fn forget_verifications(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}

/// The list of contents that are withheld from readers. Instances learn of changes from the log of changes.
#[async_trait]
pub trait QuarantineList: Send + Sync + 'static {
    /// Withholds a content from readers; false when it already is.
    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool>;

    /// Releases a content to readers; false when it was not withheld.
    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool>;

    /// Up to `limit` contents that are withheld from readers, in the order of their names.
    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<Quarantined>>;

    /// Those of these contents that are withheld from readers.
    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>>;
}

/// Stored contents as the tasks over all content see them, with their last use.
#[async_trait]
pub trait StoredContents: Send + Sync + 'static {
    /// A stored content.
    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>>;

    /// Up to `limit` stored contents whose names come after this one, in order.
    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>>;

    /// Records that contents were used on a day. An older day than the recorded one changes nothing.
    async fn note_accesses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()>;
}

/// One store behind each of its ports for stored copies.
#[derive(Clone)]
pub struct StorageRecords {
    pub verifications: Arc<dyn Verifications>,
    pub quarantine: Arc<dyn QuarantineList>,
    pub contents: Arc<dyn StoredContents>,
    pub moves: Arc<dyn StorageMoves>,
    pub tasks: Arc<dyn StorageTasks>,
    pub leases: Arc<dyn TaskLeases>,
}

impl StorageRecords {
    pub fn of<S>(store: &Arc<S>) -> Self
    where
        S: Verifications + QuarantineList + StoredContents + StorageMoves + StorageTasks + TaskLeases,
    {
        Self {
            verifications: Arc::<S>::clone(store),
            quarantine: Arc::<S>::clone(store),
            contents: Arc::<S>::clone(store),
            moves: Arc::<S>::clone(store),
            tasks: Arc::<S>::clone(store),
            leases: Arc::<S>::clone(store),
        }
    }
}
