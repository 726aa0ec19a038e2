//! Moves of contents between tiers.
//!
//! The instance that copies has the lease of the move, by the database's clock, and every write that it makes is refused
//! once another instance has taken the move over.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{PortResult, TaskLease};
use crate::{
    ids::ContentHash,
    model::{ContentMove, MoveState, StorageTier},
};

/// A move after a request to begin one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveBegun {
    pub at: ContentMove,
    /// The lease under which the caller has to carry it out. `None`: another caller does, or only the removal of old
    /// copies is left.
    pub lease: Option<TaskLease>,
}

/// Records of moves. All instances use them concurrently.
#[async_trait]
pub trait StorageMoves: Send + Sync + 'static {
    /// Records a move of a content to a tier, before anything is copied, and leases it to a holder of its own for `ttl`
    /// by the database's clock. An existing move stays as it is, unless its lease has run out, or only the removal of old
    /// copies is left and this move has another target. `None` when the content is not stored.
    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        holder: Uuid,
        ttl: Duration,
    ) -> PortResult<Option<MoveBegun>>;

    /// Renews the lease of a move that is being copied; `Fenced` when another caller has taken it over, or it is over.
    async fn keep_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease, ttl: Duration) -> PortResult<()>;

    /// Makes the target of the move the content's tier, and ends the lease; other copies are to be removed. `Fenced` when
    /// another caller has taken the move over, or it is over. Instances learn of it from the log of changes.
    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()>;

    /// Gives up a move that is being copied; `Fenced` when another caller has taken it over, or it is over.
    async fn give_up_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()>;

    /// Ends a move that no caller carries out, if it still has this target and this state.
    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool>;

    /// The move of a content, if it has one.
    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>>;

    /// Records that the copies of a content outside its tier are to be removed, as after a move to it. False when the content
    /// is in another tier, or has a move.
    async fn clear_later(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool>;

    /// Up to `limit` moves whose readers were switched before a time, oldest first, from the one after `after` on.
    async fn leaving_moves(
        &self,
        before: Timestamp,
        after: Option<&ContentMove>,
        limit: u32,
    ) -> PortResult<Vec<ContentMove>>;

    /// Up to `limit` moves that are to be copied and whose lease has run out, oldest first, from the one after `after` on.
    async fn abandoned_moves(&self, after: Option<&ContentMove>, limit: u32) -> PortResult<Vec<ContentMove>>;
}
