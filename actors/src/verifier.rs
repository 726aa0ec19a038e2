//! `Verifier`: looks at the stored copies of a content, keeps readers from what is damaged, and mends it from what is not.
//!
//! A look re-computes the SHA-256 of all bytes, which is the content's name, in every tier that has a copy. What is found is put
//! down; a second look has to agree before anything is done about it, so that a copy which moved meanwhile is not taken for lost.
//! Then, in this order: the content goes into quarantine, for every instance; where a copy is good, it is written in place of the
//! bad one and looked at; the quarantine is lifted. Whatever is interrupted leaves the content in quarantine, and the next look
//! goes on: nothing here needs to be remembered.
//!
//! No actor is in the path: a look has no state but its own. **Bound.** Bytes are read one leaf ahead of the hashing, which has a
//! blocking thread of its own, so a look holds at most [`AHEAD`] leaves and two; how many looks there are at a time is the caller's
//! to bound, as is their pace.

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

use crate::{
    clock::Clock,
    content_store::ContentStore,
    ids::{ContentHash, NodeId, VerificationId},
    ingest::Writer,
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
    /// Whether readers are kept from it now.
    pub quarantined: bool,
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
}

impl Verifier {
    pub fn new(deps: VerifierDeps) -> Self {
        let VerifierDeps { blobs, records, content, clock, node, io } = deps;
        Self { blobs, records, content, clock, node, io, counters: Arc::default() }
    }

    pub fn counters(&self) -> &StorageCounters {
        &self.counters
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
        pace: Option<&Pacer>,
    ) -> PortResult<Option<Verified>> {
        let hash = content.content_hash;
        let mut copies = self.look(&content, pace).await?;
        if copies.iter().any(CopyFound::is_bad) {
            // It may have been moved, or mended, under our eyes.
            let Some(now) = self.records.stored_content(hash).await? else { return Ok(None) };
            content = now;
            copies = self.look(&content, pace).await?;
        }
        for copy in &copies {
            self.counters.found(copy.finding);
        }
        let looks: Vec<_> = copies.iter().map(|copy| self.noted(&content, kind, copy)).collect();
        self.records.note_verifications(&looks).await?;
        let mut verified = Verified { content, copies, repaired: Vec::new(), quarantined: false };
        if verified.copies.iter().any(CopyFound::is_bad) {
            self.mend(&mut verified, pace).await?;
        } else if kind != VerificationKind::Walk || self.content.quarantine().holds(hash) {
            self.release(hash).await?;
        }
        Ok(Some(verified))
    }

    /// What there is in each tier; a tier without a copy is told of only if it should have one.
    async fn look(&self, content: &StoredContent, pace: Option<&Pacer>) -> PortResult<Vec<CopyFound>> {
        let mut found = Vec::new();
        let mut has_one = false;
        for tier in self.blobs.tiers() {
            let copy = self.look_in(content, tier, pace).await?;
            has_one |= tier == content.tier;
            if copy.finding != Finding::Missing || tier == content.tier {
                found.push(copy);
            }
        }
        if !has_one {
            // The tier was taken out of the configuration: what it had is not there.
            found.push(CopyFound::missing(content.tier));
        }
        Ok(found)
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

    /// Keeps readers from a damaged content, and mends it where that can be done.
    async fn mend(&self, verified: &mut Verified, pace: Option<&Pacer>) -> PortResult<()> {
        let content = verified.content;
        let hash = content.content_hash;
        let bad: Vec<_> = verified.copies.iter().copied().filter(CopyFound::is_bad).collect();
        let what = bad.iter().map(|copy| format!("{} {}", copy.tier, copy.finding)).collect::<Vec<_>>().join(", ");
        tracing::error!(content_hash = %hash, what, "stored content is damaged; readers do not get it until it is mended");
        self.quarantine(hash).await?;
        verified.quarantined = true;
        let Some(good) = verified.copies.iter().find(|copy| copy.has_bytes).copied() else { return Ok(()) };
        for copy in bad {
            if copy.tier != content.tier {
                // Nobody needs it.
                self.blobs.remove_copy(hash, copy.tier).await?;
                continue;
            }
            if !self.rewrite(&content, good.tier, copy.tier, VerificationKind::Repair, pace).await? {
                return Ok(());
            }
            self.counters.repaired.fetch_add(1, Relaxed);
            verified.repaired.push(copy.tier);
        }
        tracing::warn!(content_hash = %hash, from = %good.tier, "damaged content is mended");
        self.release(hash).await?;
        verified.quarantined = false;
        Ok(())
    }

    /// Keeps a content from readers, on this instance at once.
    pub(crate) async fn quarantine(&self, hash: ContentHash) -> PortResult<()> {
        self.content.quarantine().set(hash, true);
        self.content.forget(hash).await;
        self.records.quarantine(hash, self.clock.now()).await.map(drop)
    }

    /// Lets readers have a content.
    pub(crate) async fn release(&self, hash: ContentHash) -> PortResult<()> {
        if !self.content.quarantine().holds(hash) && self.records.quarantined_among(&[hash]).await?.is_empty() {
            return Ok(());
        }
        self.records.lift_quarantine(hash).await?;
        self.content.forget(hash).await;
        self.content.quarantine().set(hash, false);
        tracing::info!(content_hash = %hash, "readers get the content again");
        Ok(())
    }

    /// Writes the copy of one tier into another, or into the same one anew, and looks at what was written; false when the bytes
    /// that were read or written are not the content's: nothing new is visible then.
    pub(crate) async fn rewrite(
        &self,
        content: &StoredContent,
        from: Tier,
        to: Tier,
        kind: VerificationKind,
        pace: Option<&Pacer>,
    ) -> PortResult<bool> {
        let hash = content.content_hash;
        let Some(copy) = self.blobs.open_copy(hash, from).await? else { return Ok(false) };
        if copy.size_bytes != content.size_bytes {
            return Ok(false);
        }
        let mut writer = Writer::start(self.blobs.create_copy(to).await?, &self.io);
        let mut pieces = Pieces::of(copy.size_bytes);
        while let Some((at, length)) = pieces.next() {
            keep_pace(pace, length).await;
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
        self.records.note_verifications(&[self.noted(content, kind, &written)]).await?;
        let is_intact = written.finding == Finding::Intact;
        if !is_intact && from != to {
            // Nobody is to read what was not written as it should be.
            self.blobs.remove_copy(hash, to).await?;
        }
        Ok(is_intact)
    }

    /// Whether a copy is there that readers can use, without reading all of it.
    pub(crate) async fn stands(&self, content: &StoredContent, tier: Tier) -> PortResult<bool> {
        let copy = self.blobs.open_copy(content.content_hash, tier).await?;
        Ok(copy.is_some_and(|copy| copy.is_usable && !copy.is_left && copy.size_bytes == content.size_bytes))
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
