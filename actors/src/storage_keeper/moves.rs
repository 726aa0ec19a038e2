//! What moves and repairs have left to do: old copies go, moves that were left behind are ended, and what is in quarantine is looked at
//! again. One instance does all of it.

use super::{Keeper, STEP};
use crate::{
    clock::before,
    model::{ContentMove, MoveState, StorageTask, VerificationKind},
    mover::{Begun, MoveError, STALE},
    ports::PortResult,
};

impl Keeper {
    /// Removes the copies that moves have left, and ends moves that were left behind: in this order, because the second may need the
    /// room that the first gives. What fails with one of them waits for the next round, and keeps no other from being ended.
    ///
    /// # Errors
    /// The database's or the store's: the first one, after all were tried.
    pub async fn end_moves(&self) -> PortResult<()> {
        let Self { deps, settings, .. } = self;
        if !self.claim(StorageTask::Moves).await?.1 {
            return Ok(());
        }
        let work = async {
            let mut ended = Ok(());
            if let Some(now) = deps.watch.proven().await? {
                for at in deps.records.moves(MoveState::Leaving, before(now, settings.grace), STEP).await? {
                    let cleared = self.clear(&at).await;
                    ended = ended.and(cleared);
                }
            }
            let now = deps.clock.now();
            for at in deps.records.moves(MoveState::Copying, before(now, STALE), STEP).await? {
                let moved = self.go_on_with(&at).await;
                ended = ended.and(moved);
            }
            ended
        };
        self.while_keeping(StorageTask::Moves, work).await
    }

    /// Removes the copies that a move has left.
    async fn clear(&self, at: &ContentMove) -> PortResult<()> {
        let Self { deps, .. } = self;
        // What is in quarantine is looked at again now and then, and cleared once it is good. Of a tier that was taken out of the
        // configuration nobody can tell whether its copy stands.
        if deps.content.quarantine().holds(at.content_hash) || !deps.mover.has_tier(at.to) {
            return Ok(());
        }
        if !deps.mover.clear(at).await? {
            // What is left of it is looked at, and mended from the copies that were to go.
            deps.verifier.verify(at.content_hash, VerificationKind::Move, Some(&self.move_pace)).await?;
        }
        Ok(())
    }

    /// Carries on a move that was left behind.
    async fn go_on_with(&self, at: &ContentMove) -> PortResult<()> {
        let Self { deps, .. } = self;
        let ended = match deps.mover.begin(at.content_hash, at.to).await {
            Ok(Begun::Ours(at)) => {
                tracing::info!(content_hash = %at.content_hash, to = %at.to, "a move that was left behind goes on");
                deps.mover.carry_out(&at, Some(&self.move_pace)).await
            }
            Ok(Begun::Known(_)) | Err(MoveError::Busy(_) | MoveError::NotStored) => Ok(()),
            Err(MoveError::NoTier(to)) => {
                tracing::warn!(%to, "a move to a tier that is gone is given up");
                deps.records
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
                tracing::warn!(content_hash = %at.content_hash, %error, "content was not moved");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Looks again at all that is in quarantine.
    ///
    /// # Errors
    /// The database's. What cannot be looked at waits for the next round.
    pub async fn recheck(&self) -> PortResult<()> {
        let Self { deps, .. } = self;
        if !self.claim(StorageTask::Moves).await?.1 {
            return Ok(());
        }
        let work = async {
            let mut after = None;
            loop {
                let page = deps.records.quarantined(after, STEP).await?;
                for &hash in &page {
                    let look = deps.verifier.verify(hash, VerificationKind::Walk, self.verify_pace.as_deref());
                    if let Err(error) = look.await {
                        tracing::warn!(content_hash = %hash, %error, "what is in quarantine was not looked at again");
                    }
                }
                if page.len() < STEP as usize {
                    return Ok(());
                }
                after = page.last().copied();
            }
        };
        self.while_keeping(StorageTask::Moves, work).await
    }
}
