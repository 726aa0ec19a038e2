//! The repair of damage: the content is withheld from readers, good bytes are written in its place, and bad copies are
//! removed.

use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;

use super::{Verified, Verifier};
use crate::{
    content::upload::RepairCheck,
    ids::ContentHash,
    model::{Finding, VerificationKind},
    ports::PortResult,
    storage::copy_context::CopyInspection,
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
            let has_come = was_missing && matches!(self.context.is_usable(&content, content.tier).await, Ok(true));
            return Ok(!has_come);
        }
        // The other bad copies are no longer needed, unless the content's own tier has changed to one of theirs.
        let now = self.context.records.contents.stored_content(hash).await?;
        if now.is_none_or(|now| now.tier != content.tier) {
            return Ok(false);
        }
        for copy in bad.iter().filter(|copy| copy.tier != content.tier) {
            self.context.copies.remove_copy(hash, copy.tier).await?;
            verified.removed.push(copy.tier);
        }
        self.release(hash).await?;
        verified.quarantined = false;
        Ok(true)
    }

    /// Writes the copy in the content's own tier anew; false when no copy has the bytes.
    async fn write_own(&self, verified: &mut Verified) -> PortResult<bool> {
        let content = verified.content;
        if !self.context.copies.tiers().contains(&content.tier) {
            return Ok(false);
        }
        let mut sources: Vec<_> = verified.copies.iter().filter(|copy| copy.has_bytes).collect();
        sources.sort_by_key(|copy| copy.finding != Finding::Intact);
        let sources: Vec<_> = sources.into_iter().map(|copy| copy.tier).collect();
        let written =
            self.context.rewrite_from(&content, sources, content.tier, VerificationKind::Repair, None).await?;
        let Some(from) = written else { return Ok(false) };
        // Readers with the old copy open continue in the new one.
        self.context.content.forget(content.content_hash).await;
        self.context.counters.repaired.fetch_add(1, Relaxed);
        verified.repaired.push(content.tier);
        tracing::warn!(content_hash = %content.content_hash, %from, to = %content.tier, "damaged content was repaired from a good copy");
        Ok(true)
    }

    /// Withholds a content from readers; on this instance at once.
    async fn quarantine(&self, hash: ContentHash) -> PortResult<()> {
        self.context.content.quarantine().set(hash, true);
        self.context.content.forget(hash).await;
        self.context.records.quarantine.quarantine(hash, self.context.clock.now()).await.map(drop)
    }

    /// Releases a content to readers.
    pub(super) async fn release(&self, hash: ContentHash) -> PortResult<()> {
        if !self.context.content.quarantine().holds(hash)
            && self.context.records.quarantine.quarantined_among(&[hash]).await?.is_empty()
        {
            return Ok(());
        }
        self.context.records.quarantine.lift_quarantine(hash).await?;
        self.context.content.forget(hash).await;
        self.context.content.quarantine().set(hash, false);
        tracing::info!(content_hash = %hash, "the content is intact: readers get it again");
        Ok(())
    }
}
