//! The repair of damage: the content is withheld from readers, good bytes are written in its place, and bad copies are
//! removed.

use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;

use super::{CopyInspection, Pieces, Verified, Verifier, throttle};
use crate::{
    content::upload::{RepairCheck, Writer},
    flow::token_bucket::TokenBucket,
    ids::ContentHash,
    model::{Finding, StorageTier, StoredContent, VerificationKind},
    ports::{PortError, PortResult},
};

#[async_trait]
impl RepairCheck for Verifier {
    async fn check_repair(&self, hash: ContentHash) -> PortResult<()> {
        self.verify(hash, VerificationKind::Repair, None).await.map(drop)
    }
}

impl Verifier {
    /// Withholds a damaged content from readers, and repairs it where possible. False when it went to another tier
    /// meanwhile, or appeared again, and has to be verified anew.
    pub(super) async fn repair(&self, verified: &mut Verified) -> PortResult<bool> {
        let content = verified.content;
        let hash = content.content_hash;
        let own = verified.copies.iter().find(|copy| copy.tier == content.tier).copied();
        let bad: Vec<_> = verified.copies.iter().copied().filter(CopyInspection::is_bad).collect();
        // An unreadable copy may come back with its disk: the content is not withheld from readers.
        if own.is_some() {
            let what = bad.iter().map(|copy| format!("{} {}", copy.tier, copy.finding)).collect::<Vec<_>>().join(", ");
            tracing::error!(content_hash = %hash, what, "stored content is damaged; this node withholds it from readers until it is repaired");
            self.quarantine(hash).await?;
            verified.quarantined = true;
        }
        if own.is_none_or(|own| own.finding != Finding::Intact) && !self.write_own(verified).await? {
            let was_missing = own.is_some_and(|own| own.finding == Finding::Missing);
            let has_come = was_missing && matches!(self.is_usable(&content, content.tier).await, Ok(true));
            return Ok(!has_come);
        }
        // The other bad copies are no longer needed, unless the content's own tier has changed to one of theirs.
        let now = self.records.contents.stored_content(hash).await?;
        if now.is_none_or(|now| now.tier != content.tier) {
            return Ok(false);
        }
        for copy in bad.iter().filter(|copy| copy.tier != content.tier) {
            self.copies.remove_copy(hash, copy.tier).await?;
            verified.removed.push(copy.tier);
        }
        self.release(hash).await?;
        verified.quarantined = false;
        Ok(true)
    }

    /// Writes the copy in the content's own tier anew; false when no copy has the bytes.
    async fn write_own(&self, verified: &mut Verified) -> PortResult<bool> {
        let content = verified.content;
        if !self.copies.tiers().contains(&content.tier) {
            return Ok(false);
        }
        let mut sources: Vec<_> = verified.copies.iter().filter(|copy| copy.has_bytes).collect();
        sources.sort_by_key(|copy| copy.finding != Finding::Intact);
        let sources: Vec<_> = sources.into_iter().map(|copy| copy.tier).collect();
        let written = self.rewrite_from(&content, sources, content.tier, VerificationKind::Repair, None).await?;
        let Some(from) = written else { return Ok(false) };
        // Readers with the old copy open continue in the new one.
        self.content.forget(content.content_hash).await;
        self.counters.repaired.fetch_add(1, Relaxed);
        verified.repaired.push(content.tier);
        tracing::warn!(content_hash = %content.content_hash, %from, to = %content.tier, "damaged content was repaired from a good copy");
        Ok(true)
    }

    /// Withholds a content from readers; on this instance at once.
    async fn quarantine(&self, hash: ContentHash) -> PortResult<()> {
        self.content.quarantine().set(hash, true);
        self.content.forget(hash).await;
        self.records.quarantine.quarantine(hash, self.clock.now()).await.map(drop)
    }

    /// Releases a content to readers.
    pub(super) async fn release(&self, hash: ContentHash) -> PortResult<()> {
        if !self.content.quarantine().holds(hash)
            && self.records.quarantine.quarantined_among(&[hash]).await?.is_empty()
        {
            return Ok(());
        }
        self.records.quarantine.lift_quarantine(hash).await?;
        self.content.forget(hash).await;
        self.content.quarantine().set(hash, false);
        tracing::info!(content_hash = %hash, "the content is intact: readers get it again");
        Ok(())
    }

    /// [Writes](Self::rewrite) a copy from the first of these tiers that has the bytes; returns that tier, or `None`
    /// where none has.
    ///
    /// # Errors
    /// The error of a copy that could not be read, when no other one would do; or that there is no room.
    pub(crate) async fn rewrite_from(
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
        let mut writer = Writer::start(self.copies.create_copy(to).await?, &self.io);
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
