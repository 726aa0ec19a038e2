//! `Mover`: moves a content to another tier while it is read.
//!
//! 1. The move is recorded in the database, with a lease by the database's clock, so that another instance finishes it if this
//!    one is killed.
//! 2. The bytes are copied to the new tier, hashed on the way, and the copy is read back and hashed again.
//! 3. The switch: the database says that the content is in the new tier, and new readers use that copy. A reader that has another
//!    copy open goes on.
//! 4. After a grace period other copies are removed, after one more check that the new copy is usable.
//!
//! Each step may be repeated, and nothing is removed before step 4, so a move that is interrupted anywhere leaves a
//! content that is whole in at least one tier. The [maintenance](crate::storage::maintenance) of any instance finds it in the
//! database and begins at step 2 again.
//!
//! **Bound.** Each call moves one content at a time, with a few leaves in memory. A second move of it is refused meanwhile.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use uuid::Uuid;

use crate::{
    flow::token_bucket::TokenBucket,
    ids::ContentHash,
    model::{ContentMove, MoveState, StorageTier, StoredContent, VerificationKind},
    ports::{MoveBegun, PortError, PortResult, TaskLease},
    storage::{copy_context::CopyContext, verifier::Verifier},
};

/// A move whose lease was not renewed for this long, by the database's clock, is abandoned.
const TTL: Duration = Duration::from_secs(30);

/// How often the instance that copies renews the lease.
const KEEP_EVERY: Duration = Duration::from_secs(7);

/// Why a content was not moved. It stays where it was.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("the content is not stored")]
    NotStored,
    #[error("there is no {0} tier")]
    NoTier(StorageTier),
    /// Another move of it is under way.
    #[error("the content is on its way to the {} tier", .0.to)]
    Busy(ContentMove),
    /// No copy of it is intact.
    #[error("the content is damaged")]
    Damaged,
    #[error(transparent)]
    Port(#[from] PortError),
}

/// A move that this caller has the lease of.
#[derive(Debug, Clone, Copy)]
pub struct LeasedMove {
    pub at: ContentMove,
    lease: TaskLease,
}

/// A move that may begin.
#[derive(Debug, Clone, Copy)]
pub enum MoveStart {
    /// The caller has to [carry it out](Mover::carry_out).
    Ours(LeasedMove),
    /// Another caller carries it out, or only the removal of old copies is left.
    Known(ContentMove),
}

/// Moves contents to other tiers.
#[derive(Clone)]
pub struct Mover {
    context: CopyContext,
    /// Finds, reports and repairs the damage of a content that cannot be moved.
    verifier: Verifier,
}

impl Mover {
    pub const fn new(context: CopyContext, verifier: Verifier) -> Self {
        Self { context, verifier }
    }

    /// Records a move.
    ///
    /// # Errors
    /// When the content or the tier does not exist, or the content is being moved to another tier; the database's own.
    pub async fn begin(&self, hash: ContentHash, to: StorageTier) -> Result<MoveStart, MoveError> {
        if !self.has_tier(to) {
            return Err(MoveError::NoTier(to));
        }
        // A holder of its own for each call: two calls on one instance are as far apart as on two.
        let begun = self.context.records.moves.begin_move(hash, to, Uuid::new_v4(), TTL).await?;
        match begun.ok_or(MoveError::NotStored)? {
            MoveBegun { at, lease: Some(lease) } => Ok(MoveStart::Ours(LeasedMove { at, lease })),
            MoveBegun { at, .. } if at.to != to => Err(MoveError::Busy(at)),
            MoveBegun { at, .. } => Ok(MoveStart::Known(at)),
        }
    }

    /// Copies, verifies and switches; other copies are marked and removed later.
    ///
    /// # Errors
    /// The store's or the database's own: the move stays in its state, and is continued later. `Damaged` ends it.
    pub async fn carry_out(&self, leased: &LeasedMove, pace: Option<&TokenBucket>) -> Result<(), MoveError> {
        let LeasedMove { at, lease } = leased;
        let copying = self.copy_and_switch(leased, pace);
        let outcome = tokio::select! {
            outcome = copying => outcome,
            lost = self.keep(leased) => Err(lost),
        };
        let counters = &self.context.counters;
        match &outcome {
            Ok(()) => {
                counters.moved[at.to as usize].fetch_add(1, Relaxed);
                counters.moved_bytes.fetch_add(at.size_bytes, Relaxed);
                tracing::info!(content_hash = %at.content_hash, to = %at.to, "content was moved to another tier; readers now use the new copy");
            }
            Err(_) => {
                counters.moves_failed.fetch_add(1, Relaxed);
            }
        }
        if matches!(outcome, Err(MoveError::Damaged)) {
            match self.context.records.moves.give_up_move(at.content_hash, at.to, *lease).await {
                // Another instance has taken it over, and finds the same damage.
                Ok(()) | Err(PortError::Fenced) => {}
                Err(error) => return Err(error.into()),
            }
        }
        outcome
    }

    /// Renews the lease; returns when this caller has lost it.
    async fn keep(&self, LeasedMove { at, lease }: &LeasedMove) -> MoveError {
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            match self.context.records.moves.keep_move(at.content_hash, at.to, *lease, TTL).await {
                Ok(()) => {}
                // The switch happened just now, or another instance took the move for abandoned.
                Err(PortError::Fenced) if self.is_leaving(at).await => {}
                Err(PortError::Fenced) => return MoveError::Busy(*at),
                Err(error) => {
                    tracing::debug!(%error, "the lease of a move could not be renewed; the move goes on");
                }
            }
        }
    }

    async fn is_leaving(&self, at: &ContentMove) -> bool {
        let content = self.context.records.contents.stored_content(at.content_hash).await;
        matches!(content, Ok(Some(content)) if content.tier == at.to)
    }

    async fn copy_and_switch(&self, leased: &LeasedMove, pace: Option<&TokenBucket>) -> Result<(), MoveError> {
        let LeasedMove { at, lease } = leased;
        let CopyContext { copies, records, .. } = &self.context;
        let content = records.contents.stored_content(at.content_hash).await?.ok_or(MoveError::NotStored)?;
        if !self.bring(&content, at.to, pace).await? {
            // Verification finds, reports and, where possible, repairs whatever is wrong with the copies.
            self.verifier.verify(at.content_hash, VerificationKind::Move, pace).await?;
            return Err(MoveError::Damaged);
        }
        match records.moves.switch_tier(at.content_hash, at.to, *lease).await {
            Ok(()) => {}
            Err(PortError::Fenced) => return Err(MoveError::Busy(*at)),
            Err(error) => return Err(error.into()),
        }
        for tier in copies.tiers().into_iter().filter(|&tier| tier != at.to) {
            copies.demote_copy(at.content_hash, tier).await?;
        }
        self.context.content.forget(at.content_hash).await;
        Ok(())
    }

    /// Makes sure that a tier has an intact copy; false when no intact copy exists to make it from.
    async fn bring(&self, content: &StoredContent, to: StorageTier, pace: Option<&TokenBucket>) -> PortResult<bool> {
        // An unreadable copy is written anew.
        let stands = matches!(self.context.is_usable(content, to).await, Ok(true));
        if stands && matches!(self.context.is_intact(content, to, pace).await, Ok(true)) {
            return Ok(true);
        }
        let mut sources = self.context.copies.tiers();
        // The copy that readers use is the most likely one to be intact.
        sources.sort_by_key(|&tier| tier != content.tier);
        let written = self.context.rewrite_from(content, sources, to, VerificationKind::Move, pace).await?;
        Ok(written.is_some())
    }

    /// Removes the old copies of a move, once the new copy is usable; false when it is not, and nothing was removed.
    /// The caller's list may be old: a move that has since changed direction or ended is left alone.
    ///
    /// # Errors
    /// The store's or the database's own; the next call goes on.
    pub async fn clear(&self, at: &ContentMove) -> PortResult<bool> {
        let CopyContext { copies, records, .. } = &self.context;
        let now = records.moves.move_of(at.content_hash).await?;
        if now.is_none_or(|now| (now.to, now.state) != (at.to, MoveState::Leaving)) {
            return Ok(true);
        }
        let Some(content) = records.contents.stored_content(at.content_hash).await? else { return Ok(false) };
        if content.tier != at.to || !self.context.is_usable(&content, at.to).await? {
            return Ok(false);
        }
        for tier in copies.tiers().into_iter().filter(|&tier| tier != at.to) {
            copies.remove_copy(at.content_hash, tier).await?;
        }
        records.moves.end_move(at.content_hash, at.to, MoveState::Leaving).await?;
        self.context.content.forget(at.content_hash).await;
        Ok(true)
    }

    /// Whether a tier exists.
    pub(crate) fn has_tier(&self, tier: StorageTier) -> bool {
        self.context.copies.tiers().contains(&tier)
    }
}
