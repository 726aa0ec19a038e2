//! `CopyContext`: what the [verifier](super::verifier) and the [mover](super::mover) both hold, and do with one stored copy: inspect
//! it, and [write it from another](rewrite).
//!
//! **Bound.** Bytes are read one leaf ahead of the hashing, which has a blocking thread of its own, so an inspection holds at most
//! [`AHEAD`] leaves and two more. Callers bound the number of concurrent inspections, and their pace.

mod rewrite;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::mpsc};

use super::counters::StorageCounters;
use crate::{
    clock::Clock,
    content::{reader::ContentStore, upload::Hashers},
    flow::token_bucket::TokenBucket,
    ids::{ContentHash, NodeId, VerificationId},
    model::{Finding, LEAF_BYTES, StorageTier, StoredContent, Verification, VerificationKind},
    ports::{BlobCopies, BlobSource, PortError, PortResult, StorageRecords, StoredCopy},
};

/// Leaves that wait for hashing.
const AHEAD: usize = 1;

/// The least bytes that a copy counts for a pace: finding a small copy and recording it costs more than reading it.
const SMALLEST: u64 = 256 << 10;

/// The finding for one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyInspection {
    pub tier: StorageTier,
    pub finding: Finding,
    pub found_bytes: Option<u64>,
    /// Whether the bytes are right, even if readers cannot use them because the data kept beside them is damaged.
    pub(super) has_bytes: bool,
    /// Whether readers were switched to another copy: then this one is about to be removed, and its damage is no loss.
    pub is_demoted: bool,
}

impl CopyInspection {
    pub(super) const fn missing(tier: StorageTier) -> Self {
        Self { tier, finding: Finding::Missing, found_bytes: None, has_bytes: false, is_demoted: false }
    }

    pub(super) fn is_bad(&self) -> bool {
        self.finding != Finding::Intact && !self.is_demoted
    }
}

/// The stored copies of one instance, and what is needed to inspect and to write them.
#[derive(Clone)]
pub struct CopyContext {
    pub copies: Arc<dyn BlobCopies>,
    pub records: StorageRecords,
    /// The content store whose readers do not get damaged content.
    pub content: ContentStore,
    pub clock: Arc<dyn Clock>,
    pub node: NodeId,
    /// Reads, and the hashes of what was read, run here.
    pub io: Handle,
    /// They hash what is written.
    pub hashers: Hashers,
    pub counters: Arc<StorageCounters>,
}

impl CopyContext {
    /// Inspects the copy in one tier.
    pub(super) async fn look_in(
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

    /// The record of an inspection.
    pub(super) fn noted(&self, content: &StoredContent, kind: VerificationKind, copy: &CopyInspection) -> Verification {
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
    pub(super) async fn is_usable(&self, content: &StoredContent, tier: StorageTier) -> PortResult<bool> {
        match self.copies.open_copy(content.content_hash, tier).await {
            Ok(copy) => {
                Ok(copy.is_some_and(|copy| copy.is_usable && !copy.is_demoted && copy.size_bytes == content.size_bytes))
            }
            Err(PortError::Corrupt(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Like [`look_in`](Self::look_in), recorded as part of a move.
    pub(super) async fn is_intact(
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
