//! Writes the copy in one tier from a copy in another, or anew from itself, and verifies the result.

use super::{CopyContext, Pieces, throttle};
use crate::{
    content::upload::writer::Writer,
    flow::token_bucket::TokenBucket,
    model::{Finding, StorageTier, StoredContent, VerificationKind},
    ports::{PortError, PortResult},
};

impl CopyContext {
    /// [Writes](Self::rewrite) a copy from the first of these tiers that has the bytes; returns that tier, or `None`
    /// where none has.
    ///
    /// # Errors
    /// The error of a copy that could not be read, when no other one would do; or that there is no room.
    pub(in crate::storage) async fn rewrite_from(
        &self,
        content: &StoredContent,
        sources: impl IntoIterator<Item = StorageTier>,
        to: StorageTier,
        kind: VerificationKind,
        pace: Option<&TokenBucket>,
    ) -> PortResult<Option<StorageTier>> {
        let mut failed = None;
        for from in sources {
            match self.rewrite(content, from, to, kind, pace).await {
                Ok(true) => return Ok(Some(from)),
                Ok(false) => {}
                Err(full @ PortError::Full(_)) => return Err(full),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Writes the copy of one tier into another, or into the same one anew, and verifies the result. False when the
    /// bytes read or written are not the content's: then no new copy is visible.
    async fn rewrite(
        &self,
        content: &StoredContent,
        from: StorageTier,
        to: StorageTier,
        kind: VerificationKind,
        pace: Option<&TokenBucket>,
    ) -> PortResult<bool> {
        let hash = content.content_hash;
        let copy = match self.copies.open_copy(hash, from).await {
            Ok(Some(copy)) if copy.size_bytes == content.size_bytes => copy,
            Ok(_) | Err(PortError::Corrupt(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut writer = Writer::start(self.copies.create_copy(to).await?, self.hashers.clone());
        let mut pieces = Pieces::of(copy.size_bytes);
        while let Some((at, length)) = pieces.next() {
            throttle(pace, length).await;
            match copy.source.read_at(at, length as usize).await {
                Ok(part) => writer.write(part).await?,
                Err(PortError::Corrupt(_) | PortError::NotFound(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if writer.digest().await? != (hash, content.size_bytes) {
            return Ok(false);
        }
        writer.commit().await?;
        let written = self.look_in(content, to, pace).await?;
        self.counters.found(written.finding);
        self.records.verifications.note_verifications(&[self.noted(content, kind, &written)]).await?;
        let is_intact = written.finding == Finding::Intact;
        if !is_intact && from != to {
            // A copy that was written wrongly must not be read.
            self.copies.remove_copy(hash, to).await?;
        }
        Ok(is_intact)
    }
}
