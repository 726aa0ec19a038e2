//! `Verifier`: looks at the stored copies of a content, keeps readers from what is damaged, and mends it from what is not.
//!
//! A look re-computes the SHA-256 of all bytes, which is the content's name, in every tier that has a copy. What is found is put
//! down; a second look has to agree before anything is done about it, so that a copy which moved meanwhile is not taken for lost.
//! Then, in this order: the content goes into quarantine, for every instance; where a copy is good, the one in the content's own tier
//! is written anew from it and looked at; only then bad copies in other tiers go; the quarantine is lifted. Whatever is interrupted
//! leaves the content in quarantine, and the next look goes on: nothing here needs to be remembered.
//!
//! A copy that cannot be read is no damage: a disk or a bucket may be away. The others are looked at all the same, and the one in
//! the content's own tier is written anew if one of them is good; if none is, nothing is done and the look has failed.
//!
//! No actor is in the path: a look has no state but its own. **Bound.** Bytes are read one leaf ahead of the hashing, which has a
//! blocking thread of its own, so a look holds at most [`AHEAD`] leaves and two; how many looks there are at a time is the caller's
//! to bound, as is their pace.

mod doubt;
mod mending;

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

pub use doubt::Doubt;

use crate::{
    clock::Clock,
    content_store::ContentStore,
    ids::{ContentHash, NodeId, VerificationId},
    model::{Finding, LEAF_BYTES, StoredContent, Tier, Verification, VerificationKind},
    pacer::Pacer,
    ports::{BlobSource, BlobStore, PortError, PortResult, StorageRecords, StoredCopy},
};

/// Leaves that wait to be hashed.
const AHEAD: usize = 1;

/// A small copy counts as so many bytes to a pace: to find it, and to put down what was found, costs more than to read it.
const SMALLEST: u64 = 256 << 10;

/// What was counted. A row for each finding, in the order of [`Finding::ALL`].
#[derive(Debug, Default)]
pub struct StorageCounters {
    /// Bytes that were read and hashed to verify copies.
    pub verified_bytes: AtomicU64,
    pub findings: [AtomicU64; Finding::ALL.len()],
    pub repaired: AtomicU64,
    /// Contents that could not be looked at.
    pub failed: AtomicU64,
    /// Contents that went to another tier, in the order of [`Tier::ALL`].
    pub moved: [AtomicU64; Tier::ALL.len()],
    pub moved_bytes: AtomicU64,
    pub moves_failed: AtomicU64,
    /// When the last whole lap of the walk over all content began, in seconds since 1970; 0 before there is one.
    pub whole_lap_began_at: AtomicU64,
}

impl StorageCounters {
    fn found(&self, finding: Finding) {
        self.findings[finding as usize].fetch_add(1, Relaxed);
    }
}

/// What was found of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyFound {
    pub tier: Tier,
    pub finding: Finding,
    pub found_bytes: Option<u64>,
    /// Whether the bytes are right, even if readers cannot use them for what is kept beside them.
    has_bytes: bool,
    /// Whether readers were sent elsewhere: then it is about to go, and no loss.
    pub is_left: bool,
}

impl CopyFound {
    const fn missing(tier: Tier) -> Self {
        Self { tier, finding: Finding::Missing, found_bytes: None, has_bytes: false, is_left: false }
    }

    fn is_bad(&self) -> bool {
        self.finding != Finding::Intact && !self.is_left
    }
}

/// What came of a look at a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub content: StoredContent,
    pub copies: Vec<CopyFound>,
    /// Tiers whose copy was written anew.
    pub repaired: Vec<Tier>,
    /// Tiers whose copy was damaged and nobody needed.
    pub removed: Vec<Tier>,
    /// Whether readers are kept from it now.
    pub quarantined: bool,
}

/// What a look came to.
struct Look {
    copies: Vec<CopyFound>,
    /// Tiers that could not be looked at. Nothing is known of what they have.
    unread: Vec<(Tier, PortError)>,
}

impl Look {
    /// Whether there is nothing to mend: no copy is bad, and the one that should be there was read.
    fn is_good(&self, content: &StoredContent) -> bool {
        let is_read = self.unread.iter().all(|(tier, _)| *tier != content.tier);
        is_read && !self.copies.iter().any(CopyFound::is_bad)
    }
}

/// Looks at stored copies.
#[derive(Clone)]
pub struct Verifier {
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) records: Arc<dyn StorageRecords>,
    pub(crate) content: ContentStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: NodeId,
    pub(crate) io: Handle,
    pub(crate) counters: Arc<StorageCounters>,
    doubt: Arc<Doubt>,
}

/// What a verifier depends on.
#[derive(Clone)]
pub struct VerifierDeps {
    pub blobs: Arc<dyn BlobStore>,
    pub records: Arc<dyn StorageRecords>,
    /// Whose readers are kept from what is damaged.
    pub content: ContentStore,
    pub clock: Arc<dyn Clock>,
    pub node: NodeId,
    /// Reads and hashes run here.
    pub io: Handle,
    /// Contents that this instance tells to be missing within an hour, at most: with more it doubts itself.
    pub missing_per_hour: u32,
}

impl Verifier {
    pub fn new(deps: VerifierDeps) -> Self {
        let VerifierDeps { blobs, records, content, clock, node, io, missing_per_hour } = deps;
        let doubt = Arc::new(Doubt::of(missing_per_hour));
        Self { blobs, records, content, clock, node, io, counters: Arc::default(), doubt }
    }

    pub fn counters(&self) -> &StorageCounters {
        &self.counters
    }

    /// What this instance thinks of its own findings.
    pub fn doubt(&self) -> &Arc<Doubt> {
        &self.doubt
    }

    /// A content could not be looked at.
    pub(crate) fn failed(&self) {
        self.counters.failed.fetch_add(1, Relaxed);
    }

    /// When the last whole lap of the walk began.
    pub(crate) fn walked(&self, whole_lap_began_at: Option<Timestamp>) {
        let seconds = whole_lap_began_at.map_or(0, |began| u64::try_from(began.as_second()).unwrap_or(0));
        self.counters.whole_lap_began_at.store(seconds, Relaxed);
    }

    /// Looks at all copies of a content, and does what there is to do about them. `None` when it is not stored.
    ///
    /// The pace is that of a search: what is found damaged is looked at again, and mended, as fast as the storage gives.
    ///
    /// # Errors
    /// The store's or the database's, also when it is in the middle of a repair: the quarantine then stays.
    pub async fn verify(
        &self,
        hash: ContentHash,
        kind: VerificationKind,
        pace: Option<&Pacer>,
    ) -> PortResult<Option<Verified>> {
        let Some(content) = self.records.stored_content(hash).await? else { return Ok(None) };
        self.verify_content(content, kind, pace).await
    }

    /// As [`verify`](Self::verify), of a content that was looked up a moment ago.
    pub(crate) async fn verify_content(
        &self,
        mut content: StoredContent,
        kind: VerificationKind,
        mut pace: Option<&Pacer>,
    ) -> PortResult<Option<Verified>> {
        let hash = content.content_hash;
        loop {
            let mut look = self.look(&content, pace).await?;
            if !look.is_good(&content) {
                pace = None;
                // It may have been moved, or mended, under our eyes.
                let Some(now) = self.records.stored_content(hash).await? else { return Ok(None) };
                content = now;
                look = self.look(&content, pace).await?;
            }
            let is_missing = |copy: &CopyFound| copy.tier == content.tier && copy.finding == Finding::Missing;
            if look.copies.iter().any(is_missing) && !self.doubt.may_tell(hash, self.clock.monotonic()) {
                return Err(PortError::unavailable(
                    "stored content",
                    "too much is missing here at once to be believed",
                ));
            }
            for copy in &look.copies {
                self.counters.found(copy.finding);
            }
            let looks: Vec<_> = look.copies.iter().map(|copy| self.noted(&content, kind, copy)).collect();
            self.records.note_verifications(&looks).await?;
            let is_good = look.is_good(&content);
            let Look { copies, mut unread } = look;
            // Where no copy is good, the good one may be among those that could not be read.
            let is_known = unread.is_empty() || copies.iter().any(|copy| copy.has_bytes);
            let mut verified =
                Verified { content, copies, repaired: Vec::new(), removed: Vec::new(), quarantined: false };
            if is_good {
                if kind != VerificationKind::Walk || self.content.quarantine().holds(hash) {
                    self.release(hash).await?;
                }
            } else if is_known && !self.mend(&mut verified).await? {
                let Some(now) = self.records.stored_content(hash).await? else { return Ok(None) };
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

    /// What there is in each tier; a tier without a copy is told of only if it should have one.
    ///
    /// # Errors
    /// The store's, when no copy could be looked at.
    async fn look(&self, content: &StoredContent, mut pace: Option<&Pacer>) -> PortResult<Look> {
        let (mut copies, mut unread) = (Vec::new(), Vec::new());
        let tiers = self.blobs.tiers();
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
                    tracing::warn!(content_hash = %content.content_hash, %tier, %error, "a copy cannot be looked at");
                    unread.push((tier, error));
                }
            }
        }
        if !tiers.contains(&content.tier) {
            // Taken out of the configuration, or only of this instance's: nobody can tell from here whether its copy is there.
            let tier = content.tier;
            let error =
                PortError::unavailable("blob storage", format!("this instance's configuration has no {tier} tier"));
            tracing::warn!(content_hash = %content.content_hash, %tier, %error, "a copy cannot be looked at");
            unread.push((tier, error));
        }
        if copies.is_empty()
            && let Some((_, error)) = unread.pop()
        {
            return Err(error);
        }
        Ok(Look { copies, unread })
    }

    async fn look_in(&self, content: &StoredContent, tier: Tier, pace: Option<&Pacer>) -> PortResult<CopyFound> {
        let copy = match self.blobs.open_copy(content.content_hash, tier).await {
            Ok(Some(copy)) => copy,
            Ok(None) => return Ok(CopyFound::missing(tier)),
            Err(PortError::Corrupt(why)) => {
                tracing::error!(content_hash = %content.content_hash, %tier, why, "a copy cannot be opened");
                let found = CopyFound::missing(tier);
                return Ok(CopyFound { finding: Finding::Corrupt, ..found });
            }
            Err(error) => return Err(error),
        };
        let StoredCopy { size_bytes, is_usable, is_left, source } = copy;
        let found = |finding, has_bytes| CopyFound { tier, finding, found_bytes: Some(size_bytes), has_bytes, is_left };
        if size_bytes != content.size_bytes {
            return Ok(found(Finding::WrongSize, false));
        }
        match self.digest(&*source, size_bytes, pace).await {
            Ok(digest) if digest == content.content_hash => {
                Ok(found(if is_usable { Finding::Intact } else { Finding::Corrupt }, true))
            }
            Ok(_) | Err(PortError::Corrupt(_)) => Ok(found(Finding::Corrupt, false)),
            Err(PortError::NotFound(_)) => Ok(CopyFound::missing(tier)),
            Err(error) => Err(error),
        }
    }

    /// The SHA-256 of so many bytes.
    async fn digest(&self, source: &dyn BlobSource, size: u64, pace: Option<&Pacer>) -> PortResult<ContentHash> {
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
            keep_pace(pace, if at == 0 { length.max(SMALLEST) } else { length }).await;
            match source.read_at(at, length as usize).await {
                // The thread takes all until this side is dropped.
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

    fn noted(&self, content: &StoredContent, kind: VerificationKind, copy: &CopyFound) -> Verification {
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

    /// Whether a copy is there that readers can use, without reading all of it.
    pub(crate) async fn stands(&self, content: &StoredContent, tier: Tier) -> PortResult<bool> {
        match self.blobs.open_copy(content.content_hash, tier).await {
            Ok(copy) => {
                Ok(copy.is_some_and(|copy| copy.is_usable && !copy.is_left && copy.size_bytes == content.size_bytes))
            }
            Err(PortError::Corrupt(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`look_in`](Self::look_in), put down as part of a move.
    pub(crate) async fn is_intact(
        &self,
        content: &StoredContent,
        tier: Tier,
        pace: Option<&Pacer>,
    ) -> PortResult<bool> {
        let found = self.look_in(content, tier, pace).await?;
        self.counters.found(found.finding);
        self.records.note_verifications(&[self.noted(content, VerificationKind::Move, &found)]).await?;
        Ok(found.finding == Finding::Intact && !found.is_left)
    }
}

/// The leaves of so many bytes, as (offset, length).
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

async fn keep_pace(pace: Option<&Pacer>, bytes: u64) {
    let Some(pace) = pace else { return };
    let wait = pace.take(usize::try_from(bytes).unwrap_or(usize::MAX), Instant::now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
