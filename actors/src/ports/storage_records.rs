//! What is known of stored copies: what was found when they were looked at, what is kept from readers, what is on its way to
//! another tier, and when content was last used.
//!
//! The blob store says where copies are; nothing here is needed to read one. A record that is lost costs a look, never a byte.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};

use super::PortResult;
use crate::{
    ids::{ContentHash, NodeId},
    model::{
        ContentMove, HistoryPlace, MoveState, StorageTask, StoredContent, TaskProgress, Tier, Verification,
        VerificationKind,
    },
};

/// A task as a node found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub progress: TaskProgress,
    /// Whether the task is this node's until the time to live is over. Otherwise another one is at it.
    pub is_ours: bool,
}

/// A move as it stands after somebody wanted to begin one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveBegun {
    pub at: ContentMove,
    /// Whether it is the caller's to carry out. Otherwise somebody else is at it, or it is done but for old copies.
    pub is_ours: bool,
}

/// What is known of stored copies. Instances call all of it side by side.
#[async_trait]
pub trait StorageRecords: Send + Sync + 'static {
    /// Keeps what was found. Rows that are known already are passed over.
    async fn note_verifications(&self, rows: &[Verification]) -> PortResult<()>;

    /// Up to `limit` looks at a content, of one kind or of all, newest first, from after a place on.
    async fn verifications(
        &self,
        hash: ContentHash,
        kind: Option<VerificationKind>,
        after: Option<HistoryPlace>,
        limit: u32,
    ) -> PortResult<Vec<Verification>>;

    /// Forgets up to `limit` looks from before a time, the oldest first; how many.
    async fn forget_verifications(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Keeps a content from readers; false when it is kept from them already. Instances learn of it from the log of changes.
    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool>;

    /// Lets readers have a content again; false when they could. Instances learn of it from the log of changes.
    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool>;

    /// Up to `limit` contents that are kept from readers, in the order of their names.
    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<ContentHash>>;

    /// Of these contents, those that are kept from readers.
    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>>;

    /// A stored content, as the walks see it.
    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>>;

    /// Up to `limit` stored contents whose names come after this one, in order.
    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>>;

    /// Notes that contents were used on a day. An older day changes nothing.
    async fn note_uses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()>;

    /// Takes a task for `ttl` from now, or keeps it for as long again, unless another node has it.
    async fn claim_task(&self, task: StorageTask, node: NodeId, now: Timestamp, ttl: Duration) -> PortResult<Claim>;

    /// Keeps how far a task has come; false when it is another node's by now, and nothing was kept.
    async fn advance_task(&self, task: StorageTask, node: NodeId, progress: &TaskProgress) -> PortResult<bool>;

    /// Puts down that a content goes to a tier, before anything is copied. A move that is there already stays as it is, unless
    /// nobody has kept it since `stale`, or it is over but for the removal of old copies and this one goes elsewhere. `None`
    /// when the content is not stored.
    async fn begin_move(
        &self,
        hash: ContentHash,
        to: Tier,
        now: Timestamp,
        stale: Timestamp,
    ) -> PortResult<Option<MoveBegun>>;

    /// Shows that whoever copies is still at it; false when the move is somebody else's by now.
    async fn keep_move(&self, hash: ContentHash, to: Tier, now: Timestamp) -> PortResult<bool>;

    /// From now on the content's tier is the one that it moves to, and other copies are to go; false when there is no
    /// such move any more. Instances learn of it from the log of changes.
    async fn switch_tier(&self, hash: ContentHash, to: Tier, now: Timestamp) -> PortResult<bool>;

    /// The move is over; only if it still is one to this tier, in this state.
    async fn end_move(&self, hash: ContentHash, to: Tier, state: MoveState) -> PortResult<bool>;

    /// The move of a content, if it has one.
    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>>;

    /// Up to `limit` moves that came into this state before a time, the oldest first.
    async fn moves(&self, state: MoveState, before: Timestamp, limit: u32) -> PortResult<Vec<ContentMove>>;
}
