//! Work that moves and repairs leave behind: old and surplus copies are removed, abandoned moves are finished, and content in
//! quarantine is verified again. One instance does all of it.

use super::{MaintenanceJobs, STEP};
use crate::{
    clock::before,
    model::{ContentMove, MoveState, StorageTask, VerificationKind},
    ports::PortResult,
    storage::mover::{MoveError, MoveStart},
};

impl MaintenanceJobs {
    /// Removes old copies after moves, then finishes abandoned moves: in this order, because the second may need the
    /// space that the first frees. An error with one move waits for the next round, and does not keep the others from
    /// being finished.
    ///
    /// # Errors
    /// The database's or the store's own: the first one, after all were tried.
    pub async fn end_moves(&self) -> PortResult<()> {
        let Self { deps, settings, .. } = self;
        if self.lease(StorageTask::Moves).await?.is_none() {
            return Ok(());
        }
        let work = async {
            let mut ended = Ok(());
            if let Some(now) = deps.watch.proven().await? {
                let due = before(now, settings.grace);
                let mut after: Option<ContentMove> = None;
                // Page by page, since moves that cannot be cleared now stay in the list.
                loop {
                    let page = deps.records.moves.leaving_moves(due, after.as_ref(), STEP).await?;
                    for at in &page {
                        let cleared = self.clear(at).await;
                        ended = ended.and(cleared);
                    }
                    if page.len() < STEP as usize {
                        break;
                    }
                    after = page.last().copied();
                }
            }
            let mut after: Option<ContentMove> = None;
            loop {
                let page = deps.records.moves.abandoned_moves(after.as_ref(), STEP).await?;
                for at in &page {
                    let moved = self.resume_move(at).await;
                    ended = ended.and(moved);
                }
                if page.len() < STEP as usize {
                    return ended;
                }
                after = page.last().copied();
            }
        };
        self.with_task_kept(StorageTask::Moves, work).await
    }

    /// Removes the old copies of a move.
    async fn clear(&self, at: &ContentMove) -> PortResult<()> {
        let Self { deps, .. } = self;
        // Content in quarantine is verified again now and then, and its old copies are removed once it is good. When a
        // tier is no longer configured, the node cannot tell whether its copy is usable.
        if deps.content.quarantine().holds(at.content_hash) || !deps.mover.has_tier(at.to) {
            return Ok(());
        }
        if !deps.mover.clear(at).await? {
            // The new copy is not usable: verify it, and repair it from the copies that were to be removed.
            deps.verifier.verify(at.content_hash, VerificationKind::Move, Some(&self.move_pace)).await?;
        }
        Ok(())
    }

    /// Finishes an abandoned move.
    async fn resume_move(&self, at: &ContentMove) -> PortResult<()> {
        let Self { deps, .. } = self;
        let ended = match deps.mover.begin(at.content_hash, at.to).await {
            Ok(MoveStart::Ours(at)) => {
                let ContentMove { content_hash, to, .. } = at.at;
                tracing::info!(%content_hash, %to, "an abandoned move goes on at this node");
                deps.mover.carry_out(&at, Some(&self.move_pace)).await
            }
            Ok(MoveStart::Known(_)) | Err(MoveError::Busy(_) | MoveError::NotStored) => Ok(()),
            Err(MoveError::NoTier(to)) => {
                tracing::warn!(%to, "this node ends a move to a tier that is no longer configured");
                deps.records
                    .moves
                    .end_move(at.content_hash, at.to, MoveState::Copying)
                    .await
                    .map(drop)
                    .map_err(MoveError::from)
            }
            Err(error) => Err(error),
        };
        match ended {
            Err(MoveError::Port(error)) => Err(error),
            Err(error) => {
                tracing::warn!(content_hash = %at.content_hash, %error, "content was not moved; the next round tries again if the move is still recorded");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Verifies all content in quarantine again.
    ///
    /// # Errors
    /// The database's own. Content that cannot be verified waits for the next round.
    pub async fn recheck(&self) -> PortResult<()> {
        let Self { deps, .. } = self;
        if self.lease(StorageTask::Moves).await?.is_none() {
            return Ok(());
        }
        let work = async {
            let mut after = None;
            loop {
                let page = deps.records.quarantine.quarantined(after, STEP).await?;
                for hash in page.iter().map(|one| one.content_hash) {
                    let look = deps.verifier.verify(hash, VerificationKind::Walk, self.verify_pace.as_deref());
                    if let Err(error) = look.await {
                        tracing::warn!(content_hash = %hash, %error, "content in quarantine could not be verified; the next round tries again");
                    }
                }
                if page.len() < STEP as usize {
                    return Ok(());
                }
                after = page.last().map(|last| last.content_hash);
            }
        };
        self.with_task_kept(StorageTask::Moves, work).await
    }
}
