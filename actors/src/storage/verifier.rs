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
//! No actor is in the path: a look has no state but its own. **Bound.** Bytes are read one leaf ahead of the hashing,
//! which has a blocking thread of its own, so a look holds at most [`AHEAD`] leaves and two more. Callers bound the
//! number of concurrent looks, and their pace.

mod doubt;
mod repair;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::mpsc};

pub use doubt::MassLossGuard;

use crate::{
    clock::Clock,
    content::reader::ContentStore,
    flow::token_bucket::TokenBucket,
    ids::{ContentHash, NodeId, VerificationId},
    model::{Finding, LEAF_BYTES, StorageTier, StoredContent, Verification, VerificationKind},
    ports::{BlobCopies, BlobSource, PortError, PortResult, StorageRecords, StoredCopy},
};

/// Leaves that wait for hashing.
const AHEAD: usize = 1;

/// The least bytes that a copy counts for a pace: finding a small copy and recording it costs more than reading it.
const SMALLEST: u64 = 256 << 10;

/// The counters of verification, repair and moves. `findings` has a row for each finding, in the order of
/// [`Finding::ALL`].
#[derive(Debug, Default)]
pub struct StorageCounters {
    /// Bytes that were read and hashed to verify copies.
    pub verified_bytes: AtomicU64,
    pub findings: [AtomicU64; Finding::ALL.len()],
    pub repaired: AtomicU64,
    /// Contents that could not be verified.
    pub failed: AtomicU64,
    /// Contents moved to another tier, in the order of [`StorageTier::ALL`].
    pub moved: [AtomicU64; StorageTier::ALL.len()],
    pub moved_bytes: AtomicU64,
    pub moves_failed: AtomicU64,
    /// When the last complete lap of the walk over all content began, in seconds since 1970; 0 before there is one.
    pub whole_lap_began_at: AtomicU64,
}

impl StorageCounters {
    fn found(&self, finding: Finding) {
        self.findings[finding as usize].fetch_add(1, Relaxed);
    }
}

/// The finding for one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyInspection {
    pub tier: StorageTier,
    pub finding: Finding,
    pub found_bytes: Option<u64>,
    /// Whether the bytes are right, even if readers cannot use them because the data kept beside them is damaged.
    has_bytes: bool,
    /// Whether readers were switched to another copy: then this one is about to be removed, and its damage is no loss.
    pub is_demoted: bool,
}

impl CopyInspection {
    const fn missing(tier: StorageTier) -> Self {
        Self { tier, finding: Finding::Missing, found_bytes: None, has_bytes: false, is_demoted: false }
    }

    fn is_bad(&self) -> bool {
        self.finding != Finding::Intact && !self.is_demoted
    }
}

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
    pub(crate) copies: Arc<dyn BlobCopies>,
    pub(crate) records: StorageRecords,
    pub(crate) content: ContentStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: NodeId,
    pub(crate) io: Handle,
    pub(crate) counters: Arc<StorageCounters>,
    doubt: Arc<MassLossGuard>,
}

/// Dependencies of a verifier.
#[derive(Clone)]
pub struct VerifierDeps {
    pub copies: Arc<dyn BlobCopies>,
    pub records: StorageRecords,
    /// The content store whose readers do not get damaged content.
    pub content: ContentStore,
    pub clock: Arc<dyn Clock>,
    pub node: NodeId,
    /// Reads and hashes run here.
    pub io: Handle,
    /// The most contents that this instance reports as missing within an hour; beyond that it doubts its own findings.
    pub missing_per_hour: u32,
}

impl Verifier {
    pub fn new(deps: VerifierDeps) -> Self {
        let VerifierDeps { copies, records, content, clock, node, io, missing_per_hour } = deps;
        let doubt = Arc::new(MassLossGuard::of(missing_per_hour));
        Self { copies, records, content, clock, node, io, counters: Arc::default(), doubt }
    }

    pub fn counters(&self) -> &StorageCounters {
        &self.counters
    }

    /// This instance's doubt about its own findings.
    pub fn doubt(&self) -> &Arc<MassLossGuard> {
        &self.doubt
    }

    /// Counts a content that could not be verified.
    pub(crate) fn failed(&self) {
        self.counters.failed.fetch_add(1, Relaxed);
    }

    /// Records when the last complete lap of the walk began.
    pub(crate) fn walked(&self, whole_lap_began_at: Option<Timestamp>) {
        let seconds = whole_lap_began_at.map_or(0, |began| u64::try_from(began.as_second()).unwrap_or(0));
        self.counters.whole_lap_began_at.store(seconds, Relaxed);
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
        let Some(content) = self.records.contents.stored_content(hash).await? else { return Ok(None) };
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
                let Some(now) = self.records.contents.stored_content(hash).await? else { return Ok(None) };
                content = now;
                look = self.inspect(&content, pace).await?;
            }
            let is_missing = |copy: &CopyInspection| copy.tier == content.tier && copy.finding == Finding::Missing;
            if look.copies.iter().any(is_missing) && !self.doubt.may_report(hash, self.clock.monotonic()) {
                return Err(PortError::unavailable(
                    "stored content",
                    "too much content is missing here at once to be believed",
                ));
            }
            for copy in &look.copies {
                self.counters.found(copy.finding);
            }
            let looks: Vec<_> = look.copies.iter().map(|copy| self.noted(&content, kind, copy)).collect();
            self.records.verifications.note_verifications(&looks).await?;
            let is_good = look.is_good(&content);
            let Inspection { copies, mut unread } = look;
            // Where no copy is good, the good one may be among those that could not be read.
            let is_known = unread.is_empty() || copies.iter().any(|copy| copy.has_bytes);
            let mut verified =
                Verified { content, copies, repaired: Vec::new(), removed: Vec::new(), quarantined: false };
            if is_good {
                if kind != VerificationKind::Walk || self.content.quarantine().holds(hash) {
                    self.release(hash).await?;
                }
            } else if is_known && !self.repair(&mut verified).await? {
                let Some(now) = self.records.contents.stored_content(hash).await? else { return Ok(None) };
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

    /// The copies in all tiers. A missing copy is listed only for the content's own tier.
    ///
    /// # Errors
    /// The store's own, when no tier could be read.
    async fn inspect(&self, content: &StoredContent, mut pace: Option<&TokenBucket>) -> PortResult<Inspection> {
        let (mut copies, mut unread) = (Vec::new(), Vec::new());
        let tiers = self.copies.tiers();
        for &tier in &tiers {
            match self.look_in(content, tier, pace).await {
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

    async fn look_in(
        &self,
        content: &StoredContent,
        tier: StorageTier,
        pace: Option<&TokenBucket>,
    ) -> PortResult<CopyInspection> {
        let copy = match self.copies.open_copy(content.content_hash, tier).await {
            Ok(Some(copy)) => copy,
            Ok(None) => return Ok(CopyInspection::missing(tier)),
            Err(PortError::Corrupt(why)) => {
                tracing::error!(content_hash = %content.content_hash, %tier, why, "a copy is damaged and cannot be opened");
                let found = CopyInspection::missing(tier);
                return Ok(CopyInspection { finding: Finding::Corrupt, ..found });
            }
            Err(error) => return Err(error),
        };
        let StoredCopy { size_bytes, is_usable, is_demoted, source } = copy;
        let found =
            |finding, has_bytes| CopyInspection { tier, finding, found_bytes: Some(size_bytes), has_bytes, is_demoted };
        if size_bytes != content.size_bytes {
            return Ok(found(Finding::WrongSize, false));
        }
        match self.digest(&*source, size_bytes, pace).await {
            Ok(digest) if digest == content.content_hash => {
                Ok(found(if is_usable { Finding::Intact } else { Finding::Corrupt }, true))
            }
            Ok(_) | Err(PortError::Corrupt(_)) => Ok(found(Finding::Corrupt, false)),
            Err(PortError::NotFound(_)) => Ok(CopyInspection::missing(tier)),
            Err(error) => Err(error),
        }
    }

    /// The SHA-256 of `size` bytes.
    async fn digest(&self, source: &dyn BlobSource, size: u64, pace: Option<&TokenBucket>) -> PortResult<ContentHash> {
        let (leaves, mut inbox) = mpsc::channel::<Bytes>(AHEAD);
        let hashing = self.io.spawn_blocking(move || {
            let mut whole = Sha256::new();
            while let Some(leaf) = inbox.blocking_recv() {
                whole.update(&leaf);
            }
            ContentHash::from_bytes(whole.finalize().into())
        });
        let mut reading = Ok(());
        let mut pieces = Pieces::of(size);
        while let Some((at, length)) = pieces.next() {
            throttle(pace, if at == 0 { length.max(SMALLEST) } else { length }).await;
            match source.read_at(at, length as usize).await {
                // The send succeeds: the thread receives until this side is dropped.
                Ok(leaf) => drop(leaves.send(leaf).await),
                Err(error) => {
                    reading = Err(error);
                    break;
                }
            }
            self.counters.verified_bytes.fetch_add(length, Relaxed);
        }
        drop(leaves);
        let digest = hashing.await.map_err(|stopped| PortError::unavailable("the hashing thread", stopped))?;
        reading.map(|()| digest)
    }

    fn noted(&self, content: &StoredContent, kind: VerificationKind, copy: &CopyInspection) -> Verification {
        Verification {
            verification_id: VerificationId::next(),
            content_hash: content.content_hash,
            kind,
            tier: copy.tier,
            finding: copy.finding,
            expected_bytes: content.size_bytes,
            found_bytes: copy.found_bytes,
            node: self.node,
            verified_at: crate::clock::to_micros(self.clock.now()),
        }
    }

    /// Whether a copy exists that readers can use, without reading all of it.
    pub(crate) async fn is_usable(&self, content: &StoredContent, tier: StorageTier) -> PortResult<bool> {
        match self.copies.open_copy(content.content_hash, tier).await {
            Ok(copy) => {
                Ok(copy.is_some_and(|copy| copy.is_usable && !copy.is_demoted && copy.size_bytes == content.size_bytes))
            }
            Err(PortError::Corrupt(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Like [`look_in`](Self::look_in), recorded as part of a move.
    pub(crate) async fn is_intact(
        &self,
        content: &StoredContent,
        tier: StorageTier,
        pace: Option<&TokenBucket>,
    ) -> PortResult<bool> {
        let found = self.look_in(content, tier, pace).await?;
        self.counters.found(found.finding);
        self.records.verifications.note_verifications(&[self.noted(content, VerificationKind::Move, &found)]).await?;
        Ok(found.finding == Finding::Intact && !found.is_demoted)
    }
}

/// The leaves of `size` bytes, as (offset, length).
struct Pieces {
    at: u64,
    size: u64,
}

impl Pieces {
    const fn of(size: u64) -> Self {
        Self { at: 0, size }
    }

    fn next(&mut self) -> Option<(u64, u64)> {
        let (at, length) = (self.at, LEAF_BYTES.min(self.size - self.at));
        self.at += length;
        (length > 0).then_some((at, length))
    }
}

async fn throttle(pace: Option<&TokenBucket>, bytes: u64) {
    let Some(pace) = pace else { return };
    let wait = pace.take(usize::try_from(bytes).unwrap_or(usize::MAX), Instant::now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
