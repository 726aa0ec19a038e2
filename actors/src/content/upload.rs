//! Ingest: uploads. Bytes are hashed, whole and per leaf, while they stream to the blob store.
//!
//! The path has no actor: an upload has no state but its own. A [`writer`] hashes and writes the bytes away from the web
//! workers. The order of the last steps keeps a sweep from removing a blob that was just uploaded: announce in the
//! catalogue, make the blob visible, complete in the catalogue. Content in quarantine that is uploaded again replaces the
//! stored copy, is verified, and is released to readers if it is intact.
//!
//! **Bound.** `concurrent` uploads at a time, of which one producer cannot take all, each with two strides of its writer in
//! memory; `in_parts` of them may hold more ([`IngestSettings`]). A dropped upload leaves nothing that a reader could see.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    clock::Clock,
    content::quarantine::Quarantine,
    flow::{
        admission::AdmissionSnapshot,
        fairness::{FairAdmission, FairPermit, NotAdmitted},
    },
    ids::{ContentHash, ProducerId},
    model::ContentMeta,
    ports::{BlobStore, ContentIndex, PortError, PortResult},
};

mod hashing;
pub(crate) mod writer;

pub use self::hashing::Hashers;
use self::writer::Writer;

/// Bounds of ingest.
#[derive(Debug, Clone, Copy)]
pub struct IngestSettings {
    /// The largest content.
    pub max_bytes: u64,
    /// Uploads at a time.
    pub concurrent: u32,
    /// How many of them may hold whole parts in memory, megabytes each: requests of resumable uploads, and all uploads to a
    /// store that [takes parts](Self::stores_parts).
    pub in_parts: u32,
    /// Whether the store gathers the bytes of an upload into parts, in memory, before it sends them.
    pub stores_parts: bool,
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("the content is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the bytes hash to {actual}, not to {expected}")]
    DigestMismatch { expected: ContentHash, actual: ContentHash },
    #[error("too many uploads are under way")]
    Overloaded,
    #[error("the producer has {held} uploads under way, which is its share of this node's")]
    ProducerHasShare { held: u64 },
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The outcome of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedContent {
    pub meta: ContentMeta,
    /// False when the content was already stored.
    pub created: bool,
}

/// Verifies content in quarantine after it was uploaded again.
#[async_trait]
pub trait RepairCheck: Send + Sync {
    /// Verifies the stored copies of a content, and releases it to readers if they are intact.
    ///
    /// # Errors
    /// The store's or the database's own: the content then stays in quarantine.
    async fn check_repair(&self, hash: ContentHash) -> PortResult<()>;
}

/// The right of a producer to an upload; dropping it gives the right back.
pub(crate) struct UploadPermit {
    _upload: FairPermit<ProducerId>,
    _in_parts: Option<FairPermit<ProducerId>>,
}

/// Dependencies of the ingest.
#[derive(Clone)]
pub struct IngestDeps {
    pub blobs: Arc<dyn BlobStore>,
    pub index: Arc<dyn ContentIndex>,
    pub clock: Arc<dyn Clock>,
    pub hashers: Hashers,
    /// The content that is withheld from readers. An upload of it replaces the copies that exist: a store may take those
    /// for intact by their size.
    pub quarantine: Quarantine,
    /// Verifies such an upload.
    pub repair_check: Arc<dyn RepairCheck>,
}

/// Takes uploads.
#[derive(Clone)]
pub struct Ingest {
    deps: IngestDeps,
    admission: FairAdmission<ProducerId>,
    in_parts: FairAdmission<ProducerId>,
    settings: IngestSettings,
}

impl Ingest {
    pub fn new(deps: IngestDeps, settings: IngestSettings) -> Self {
        let admission = FairAdmission::new("uploads", settings.concurrent);
        let in_parts = FairAdmission::new("uploads_in_parts", settings.in_parts);
        Self { deps, admission, in_parts, settings }
    }

    pub const fn max_bytes(&self) -> u64 {
        self.settings.max_bytes
    }

    pub fn queue(&self) -> AdmissionSnapshot {
        self.admission.snapshot()
    }

    /// The uploads that may hold whole parts in memory.
    pub fn queue_in_parts(&self) -> AdmissionSnapshot {
        self.in_parts.snapshot()
    }

    /// Begins an upload of this producer.
    ///
    /// # Errors
    /// `Overloaded` or `ProducerHasShare` when there are too many; the store's own.
    pub async fn begin(&self, producer: ProducerId) -> Result<Upload, IngestError> {
        self.begin_admitted(self.admit(producer, self.settings.stores_parts)?).await
    }

    /// Takes the permit of a request that holds whole parts in memory.
    ///
    /// # Errors
    /// `Overloaded` or `ProducerHasShare` when there are too many.
    pub(crate) fn admit_in_parts(&self, producer: ProducerId) -> Result<UploadPermit, IngestError> {
        self.admit(producer, true)
    }

    fn admit(&self, producer: ProducerId, holds_parts: bool) -> Result<UploadPermit, IngestError> {
        let of = |admission: &FairAdmission<ProducerId>| {
            admission.try_admit(producer).map_err(|refusal| match refusal {
                NotAdmitted::Full => IngestError::Overloaded,
                NotAdmitted::HolderHasShare { held } => IngestError::ProducerHasShare { held },
            })
        };
        let upload = of(&self.admission)?;
        let in_parts = holds_parts.then(|| of(&self.in_parts)).transpose()?;
        Ok(UploadPermit { _upload: upload, _in_parts: in_parts })
    }

    /// Begins an upload that has its permit.
    ///
    /// # Errors
    /// The store's own.
    pub(crate) async fn begin_admitted(&self, permit: UploadPermit) -> Result<Upload, IngestError> {
        let sink = self.deps.blobs.create().await?;
        Ok(Upload {
            ingest: self.clone(),
            writer: Writer::start(sink, self.deps.hashers.clone()),
            taken: 0,
            _permit: permit,
        })
    }
}

/// An upload under way. Dropping it undoes it.
pub struct Upload {
    ingest: Ingest,
    writer: Writer,
    taken: u64,
    _permit: UploadPermit,
}

impl Upload {
    /// Takes the next part. Bytes are counted as they arrive: no header is trusted.
    ///
    /// # Errors
    /// `TooLarge` past the limit. A write that failed shows with one of the next parts.
    pub async fn write(&mut self, part: Bytes) -> Result<(), IngestError> {
        self.taken += part.len() as u64;
        let limit = self.ingest.max_bytes();
        if self.taken > limit {
            return Err(IngestError::TooLarge { limit });
        }
        Ok(self.writer.write(part).await?)
    }

    /// Ends the upload: compares the digest, and makes the content visible under its name. Content in quarantine is
    /// verified, and stays there if that fails: the upload has succeeded all the same.
    ///
    /// # Errors
    /// `DigestMismatch` when the content does not have the `expected` hash; then nothing is kept.
    pub async fn finish(
        mut self,
        expected: Option<ContentHash>,
        media_type: String,
        producer: ProducerId,
    ) -> Result<UploadedContent, IngestError> {
        let (hash, size_bytes) = self.writer.digest().await?;
        if let Some(expected) = expected.filter(|expected| *expected != hash) {
            return Err(IngestError::DigestMismatch { expected, actual: hash });
        }
        let IngestDeps { index, clock, quarantine, repair_check, .. } = &self.ingest.deps;
        let meta = ContentMeta { content_hash: hash, size_bytes, media_type, stored_at: clock.now() };
        index.announce_content(&meta, producer).await?;
        if quarantine.holds(hash) {
            self.writer.replace().await?;
        }
        // Commit even where the content is stored already: this restores copies that were lost or damaged since.
        self.writer.commit().await?;
        let completed = index.complete_content(hash).await?;
        // Without an entry, a Janitor withdrew the announcement, because the commit took longer than an upload may. The blob may be
        // in the trash already, so nothing is promised; the next upload of the content announces it again.
        let meta = if completed { meta } else { index.content_of(hash, producer).await?.ok_or_else(withdrawn)? };
        // An answer must not tell that another producer has stored the same bytes.
        let created = index.note_upload(hash, producer).await?;
        if quarantine.holds(hash)
            && let Err(error) = repair_check.check_repair(hash).await
        {
            tracing::warn!(content_hash = %hash, %error, "quarantined content was uploaded again but could not be verified; it stays in quarantine");
        }
        Ok(UploadedContent { meta, created })
    }
}

fn withdrawn() -> PortError {
    PortError::unavailable(
        "the storage index",
        "the announcement of the upload was withdrawn before its blob was visible",
    )
}
