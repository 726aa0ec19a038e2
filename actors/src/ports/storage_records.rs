//! Records about stored copies: results of verification, quarantine, moves between tiers, and last use of content.
//!
//! The blob store knows where copies are; no record is needed to read one. A lost record costs a verification, never a byte.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};

use super::PortResult;
use crate::{
    ids::{ContentHash, NodeId},
    model::{
        ContentMove, HistoryPosition, MoveState, StorageTask, StorageTier, StoredContent, TaskProgress, Verification,
        VerificationKind,
    },
};

/// A task after an attempt to claim it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub progress: TaskProgress,
    /// Whether this node has the task until the time to live is over. Otherwise another node has it.
    pub is_ours: bool,
}

/// A move after a request to begin one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveBegun {
    pub at: ContentMove,
    /// Whether the caller has to carry it out. Otherwise another caller does, or only the removal of old copies is left.
    pub is_ours: bool,
}

/// Records about stored copies. All instances use them concurrently.
#[async_trait]
pub trait StorageRecords: Send + Sync + 'static {
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

    /// Withholds a content from readers; false when it already is. Instances learn of it from the log of changes.
    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool>;

    /// Releases a content to readers; false when it was not withheld. Instances learn of it from the log of changes.
    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool>;

    /// Up to `limit` contents that are withheld from readers, in the order of their names.
    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<ContentHash>>;

    /// Those of these contents that are withheld from readers.
    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>>;

    /// A stored content, as the tasks over all content see it.
    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>>;

    /// Up to `limit` stored contents whose names come after this one, in order.
    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>>;

    /// Records that contents were used on a day. An older day than the recorded one changes nothing.
    async fn note_accesses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()>;

    /// Takes a task for `ttl` from now, or extends it by as much, unless another node has it.
    async fn claim_task(&self, task: StorageTask, node: NodeId, now: Timestamp, ttl: Duration) -> PortResult<Claim>;

    /// Stores the progress of a task; false when another node has the task by now, and nothing was stored.
    async fn advance_task(&self, task: StorageTask, node: NodeId, progress: &TaskProgress) -> PortResult<bool>;

    /// Records a move of a content to a tier, before anything is copied. An existing move stays as it is, unless its
    /// sign of life is older than `stale`, or only the removal of old copies is left and this move has another target.
    /// `None` when the content is not stored.
    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        now: Timestamp,
        stale: Timestamp,
    ) -> PortResult<Option<MoveBegun>>;

    /// Renews the sign of life of a move; false when another caller has the move by now.
    async fn keep_move(&self, hash: ContentHash, to: StorageTier, now: Timestamp) -> PortResult<bool>;

    /// Makes the target of the move the content's tier; other copies are to be removed. False when the move no longer
    /// exists. Instances learn of it from the log of changes.
    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, now: Timestamp) -> PortResult<bool>;

    /// Ends a move, if it still has this target and this state.
    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool>;

    /// The move of a content, if it has one.
    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>>;

    /// Up to `limit` moves that entered this state before a time, oldest first.
    async fn moves(&self, state: MoveState, before: Timestamp, limit: u32) -> PortResult<Vec<ContentMove>>;
}
