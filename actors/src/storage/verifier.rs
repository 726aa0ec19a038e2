//! `Verifier`: verifies the stored copies of a content, withholds damaged content from readers, and repairs it from
//! good copies.
//!
//! A look recomputes the SHA-256 of all bytes, which is the content's name, in every tier that has a copy. The findings
//! are recorded. A second look has to agree before anything is done, so that a copy that moved meanwhile is not taken
//! for lost. Then, in this order: the content goes into quarantine, for every instance; where a copy is good, the copy
//! in the content's own tier is written anew from it and verified; only then are bad copies in other tiers removed; the
//! quarantine is lifted. An interruption at any point leaves the content in quarantine, and the next look goes on: no
//! state is kept for it.
//!
//! An unreadable copy is no damage: a disk or a bucket may be away. The other copies are verified all the same, and the copy
//! in the content's own tier is written anew if one of them is good. If none is, nothing is done and the look has failed.
//!
//! No actor is in the path: a look has no state but its own. **Bound.** A look inspects one [copy](super::copy_context) at a time.
//! Callers bound the number of concurrent looks, and their pace.

mod doubt;
mod repair;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use jiff::Timestamp;

pub use doubt::MassLossGuard;

use super::{
    copy_context::{CopyContext, CopyInspection},
    counters::StorageCounters,
};
use crate::{
    flow::token_bucket::TokenBucket,
    ids::ContentHash,
    model::{Finding, StorageTier, StoredContent, VerificationKind},
    ports::{PortError, PortResult},
};

/// The outcome of the verification of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub content: StoredContent,
    pub copies: Vec<CopyInspection>,
    /// Tiers whose copy was written anew.
    pub repaired: Vec<StorageTier>,
    /// Tiers whose copy was damaged and no longer needed.
    pub removed: Vec<StorageTier>,
    /// Whether the content is now withheld from readers.
    pub quarantined: bool,
}

impl Verified {
    /// Whether the copy in the content's tier is good, and other tiers have copies.
    fn has_surplus(&self) -> bool {
        let is_own = |copy: &&CopyInspection| copy.tier == self.content.tier;
        let own = self.copies.iter().find(is_own);
        self.copies.len() > 1 && own.is_some_and(|own| own.finding == Finding::Intact && !own.is_demoted)
    }
}

/// The result of one look.
struct Inspection {
    copies: Vec<CopyInspection>,
    /// Tiers that could not be read. Their copies are unknown.
    unread: Vec<(StorageTier, PortError)>,
}

impl Inspection {
    /// Whether there is nothing to repair: no copy is bad, and the content's own tier was read.
    fn is_good(&self, content: &StoredContent) -> bool {
        let is_read = self.unread.iter().all(|(tier, _)| *tier != content.tier);
        is_read && !self.copies.iter().any(CopyInspection::is_bad)
    }
}

/// Verifies and repairs stored copies.
#[derive(Clone)]
pub struct Verifier {
    context: CopyContext,
    doubt: Arc<MassLossGuard>,
}

impl Verifier {
    /// `missing_per_hour`: the most contents that this instance reports as missing within an hour; beyond that it doubts its own
    /// findings.
    pub fn new(context: CopyContext, missing_per_hour: u32) -> Self {
        Self { context, doubt: Arc::new(MassLossGuard::of(missing_per_hour)) }
    }

    pub fn counters(&self) -> &StorageCounters {
        &self.context.counters
    }

    /// This instance's doubt about its own findings.
    pub fn doubt(&self) -> &Arc<MassLossGuard> {
        &self.doubt
    }

    /// Counts a content that could not be verified.
    pub(crate) fn failed(&self) {
        self.context.counters.failed.fetch_add(1, Relaxed);
    }

    /// Records when the last complete lap of the walk began.
    pub(crate) fn walked(&self, whole_lap_began_at: Option<Timestamp>) {
        let seconds = whole_lap_began_at.map_or(0, |began| u64::try_from(began.as_second()).unwrap_or(0));
        self.context.counters.whole_lap_began_at.store(seconds, Relaxed);
    }

    /// Verifies all copies of a content, and repairs or removes damaged ones. `None` when it is not stored.
    ///
    /// The pace applies to the first look: damaged content is verified again, and repaired, as fast as the storage allows.
    ///
    /// # Errors
    /// The store's or the database's own, also in the middle of a repair: the quarantine then stays.
    pub async fn verify(
        &self,
        hash: ContentHash,
        kind: VerificationKind,
        pace: Option<&TokenBucket>,
    ) -> PortResult<Option<Verified>> {
        let Some(content) = self.context.records.contents.stored_content(hash).await? else { return Ok(None) };
        self.verify_content(content, kind, pace).await
    }

    /// Like [`verify`](Self::verify), for a content that was looked up a moment ago.
    pub(crate) async fn verify_content(
        &self,
        mut content: StoredContent,
        kind: VerificationKind,
        mut pace: Option<&TokenBucket>,
    ) -> PortResult<Option<Verified>> {
        let hash = content.content_hash;
        loop {
            let mut look = self.inspect(&content, pace).await?;
            if !look.is_good(&content) {
                pace = None;
                // It may have been moved or repaired during the look.
                let Some(now) = self.context.records.contents.stored_content(hash).await? else { return Ok(None) };
                content = now;
                look = self.inspect(&content, pace).await?;
            }
            let is_missing = |copy: &CopyInspection| copy.tier == content.tier && copy.finding == Finding::Missing;
            if look.copies.iter().any(is_missing) && !self.doubt.may_report(hash, self.context.clock.monotonic()) {
                return Err(PortError::unavailable(
                    "stored content",
                    "too much content is missing here at once to be believed",
                ));
            }
            for copy in &look.copies {
                self.context.counters.found(copy.finding);
            }
            let looks: Vec<_> = look.copies.iter().map(|copy| self.context.noted(&content, kind, copy)).collect();
            self.context.records.verifications.note_verifications(&looks).await?;
            let is_good = look.is_good(&content);
            let Inspection { copies, mut unread } = look;
            // Where no copy is good, the good one may be among those that could not be read.
            let is_known = unread.is_empty() || copies.iter().any(|copy| copy.has_bytes);
            let mut verified =
                Verified { content, copies, repaired: Vec::new(), removed: Vec::new(), quarantined: false };
            if is_good {
                if kind == VerificationKind::Walk && verified.has_surplus() {
                    self.clear_surplus(&verified.content).await?;
                }
                if kind != VerificationKind::Walk || self.context.content.quarantine().holds(hash) {
                    self.release(hash).await?;
                }
            } else if is_known && !self.repair(&mut verified).await? {
                let Some(now) = self.context.records.contents.stored_content(hash).await? else { return Ok(None) };
                content = now;
                continue;
            }
            unread.retain(|(tier, _)| !verified.repaired.contains(tier));
            return match unread.into_iter().next() {
                Some((_, error)) => Err(error),
                None => Ok(Some(verified)),
            };
        }
    }

    /// Has the copies outside a content's tier removed, as after a move. A crash between two steps of a move or a repair leaves
    /// such copies. They stay for the grace period of moves, and until the copy in the content's tier was checked once more.
    async fn clear_surplus(&self, content: &StoredContent) -> PortResult<()> {
        let StoredContent { content_hash, tier, .. } = *content;
        if self.context.records.moves.clear_later(content_hash, tier).await? {
            tracing::info!(%content_hash, %tier, "content has copies outside its tier, and no move; this node removes them after the grace period of moves");
        }
        Ok(())
    }

    /// The copies in all tiers. A missing copy is listed only for the content's own tier.
    ///
    /// # Errors
    /// The store's own, when no tier could be read.
    async fn inspect(&self, content: &StoredContent, mut pace: Option<&TokenBucket>) -> PortResult<Inspection> {
        let (mut copies, mut unread) = (Vec::new(), Vec::new());
        let tiers = self.context.copies.tiers();
        for &tier in &tiers {
            match self.context.look_in(content, tier, pace).await {
                Ok(copy) if copy.finding == Finding::Missing && tier != content.tier => {}
                Ok(copy) => {
                    if copy.is_bad() {
                        pace = None;
                    }
                    copies.push(copy);
                }
                Err(error) => {
                    tracing::warn!(content_hash = %content.content_hash, %tier, %error, "a copy cannot be read; this node goes on with the copies in other tiers");
                    unread.push((tier, error));
                }
            }
        }
        if !tiers.contains(&content.tier) {
            // The tier is not configured on this instance, so this instance cannot tell whether its copy exists.
            let tier = content.tier;
            let error =
                PortError::unavailable("blob storage", format!("this instance's configuration has no {tier} tier"));
            tracing::warn!(content_hash = %content.content_hash, %tier, %error, "a copy cannot be read: its tier is not configured here; this node goes on with the copies in other tiers");
            unread.push((tier, error));
        }
        if copies.is_empty()
            && let Some((_, error)) = unread.pop()
        {
            return Err(error);
        }
        Ok(Inspection { copies, unread })
    }
}
