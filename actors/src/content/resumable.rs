//! Resumable uploads: content that arrives in several requests, at any instance, and survives a kill of each of them.
//!
//! The bytes of a request are gathered into parts of at most [`PART_BYTES`](crate::ports::PART_BYTES). A part is durable in the blob store before the catalogue
//! counts it, and the catalogue counts it only if the upload still ends where the part begins. So the offset that a client is told is
//! always true, and of two requests that append at the same byte, on whichever instances, one goes on and the other is told the
//! offset. No request has to lock the upload, so a dead one locks nothing.
//!
//! The last part of an upload is not counted by itself: the parts and these last bytes pass through the [`Ingest`] as any upload does,
//! and the upload is complete when the content is stored. A node that is killed meanwhile leaves an upload that lacks its last part.
//!
//! **Bound.** A request takes one of the [`Ingest`]'s permits for those that hold parts, and holds at most one part in memory; an upload has at most
//! [`MOST_PARTS`] parts; [`UploadBounds`] bounds the uploads.

mod append;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::runtime::Handle;
use uuid::Uuid;

pub use self::append::Append;
use crate::{
    clock::Clock,
    content::upload::{Ingest, IngestError, UploadPermit, UploadedContent},
    ids::{ContentHash, ProducerId, UploadId},
    model::{NewPart, PartName, ResumableUpload, UploadBounds, UploadKind},
    ports::{BeginOutcome, PortError, PortResult, ResumableUploads, UploadParts},
};

/// The most parts of an upload: 12 times as many as the largest content needs, for clients that send little at a time.
pub const MOST_PARTS: u32 = 100_000;

/// How long an instance that completes an upload is waited for. It renews this after a third of the time.
const HOLD: Duration = Duration::from_secs(90);

/// The pieces in which a part is passed on, so that the queue of the ingest holds no more than two parts.
const PIECE: usize = 1 << 20;

/// Parts that are removed concurrently.
const REMOVALS: usize = 8;

/// Bounds and times of resumable uploads.
#[derive(Debug, Clone, Copy)]
pub struct ResumableSettings {
    pub bounds: UploadBounds,
    /// How long an upload is kept after its last part has arrived.
    pub ttl: Duration,
}

/// Why a request of a resumable upload was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ResumableError {
    #[error("there is no such upload")]
    Unknown,
    #[error("the upload ends at byte {offset}")]
    Offset { offset: u64 },
    #[error("the upload has {length} bytes")]
    TooLong { length: u64 },
    #[error("the producer has {limit} unfinished uploads")]
    TooMany { limit: u32 },
    #[error("the unfinished uploads have {limit} bytes")]
    NoRoom { limit: u64 },
    #[error("the upload has {MOST_PARTS} parts")]
    TooManyParts,
    #[error("a final upload takes no bytes")]
    Final,
    #[error("a part of the final upload is not a complete partial upload")]
    Unfinished,
    #[error("the upload is being completed")]
    Busy,
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl From<PortError> for ResumableError {
    fn from(error: PortError) -> Self {
        Self::Ingest(error.into())
    }
}

/// What a client says of a new upload.
#[derive(Debug, Clone)]
pub struct NewUpload {
    pub producer_id: ProducerId,
    /// Not [`UploadKind::Final`], which [`ResumableIngest::concatenate`] makes.
    pub kind: UploadKind,
    pub length_bytes: u64,
    pub media_type: String,
    pub declared_hash: Option<ContentHash>,
    pub metadata: String,
}

/// Dependencies of resumable uploads.
#[derive(Clone)]
pub struct ResumableDeps {
    pub catalogue: Arc<dyn ResumableUploads>,
    pub parts: Arc<dyn UploadParts>,
    pub ingest: Ingest,
    pub clock: Arc<dyn Clock>,
    /// Removes parts that nothing needs any more.
    pub io: Handle,
}

/// Takes resumable uploads.
#[derive(Clone)]
pub struct ResumableIngest {
    deps: ResumableDeps,
    settings: ResumableSettings,
}

impl ResumableIngest {
    pub const fn new(deps: ResumableDeps, settings: ResumableSettings) -> Self {
        Self { deps, settings }
    }

    pub const fn max_bytes(&self) -> u64 {
        self.deps.ingest.max_bytes()
    }

    /// Begins an upload. One without bytes is complete at once.
    ///
    /// # Errors
    /// `TooMany`, `NoRoom`, or an upload that is larger than this node takes.
    pub async fn begin(&self, new: NewUpload) -> Result<ResumableUpload, ResumableError> {
        let upload = self.add(new, String::new()).await?;
        if upload.length_bytes == 0 && upload.kind == UploadKind::Whole {
            let permit = self.deps.ingest.admit_in_parts(upload.producer_id)?;
            return self.finish(upload, &[], Bytes::new(), permit).await;
        }
        Ok(upload)
    }

    /// Makes a content of the bytes of complete partial uploads, in this order. The partial uploads stay.
    ///
    /// # Errors
    /// `Unfinished` unless all are complete partial uploads of this producer.
    pub async fn concatenate(
        &self,
        new: NewUpload,
        of: &[UploadId],
        concat: String,
    ) -> Result<ResumableUpload, ResumableError> {
        let mut length_bytes = 0_u64;
        for &id in of {
            let part = self.find(id, Some(new.producer_id)).await.map_err(|error| match error {
                ResumableError::Unknown => ResumableError::Unfinished,
                error => error,
            })?;
            if part.kind != UploadKind::Partial || !part.is_complete() {
                return Err(ResumableError::Unfinished);
            }
            length_bytes = length_bytes.saturating_add(part.length_bytes);
        }
        let permit = self.deps.ingest.admit_in_parts(new.producer_id)?;
        let upload = self.add(NewUpload { kind: UploadKind::Final, length_bytes, ..new }, concat).await?;
        let id = upload.upload_id;
        let finished = self.finish(upload, of, Bytes::new(), permit).await;
        if finished.is_err() {
            // The client has not been told of it.
            self.deps.catalogue.remove_upload(id).await?;
        }
        finished
    }

    async fn add(&self, new: NewUpload, concat: String) -> Result<ResumableUpload, ResumableError> {
        let NewUpload { producer_id, kind, length_bytes, media_type, declared_hash, metadata } = new;
        if length_bytes > self.max_bytes() {
            return Err(IngestError::TooLarge { limit: self.max_bytes() }.into());
        }
        let upload = ResumableUpload {
            upload_id: UploadId::random(),
            producer_id,
            kind,
            concat,
            length_bytes,
            offset_bytes: 0,
            parts: 0,
            media_type,
            declared_hash,
            metadata,
            content_hash: None,
            expires_at: self.expiry(),
        };
        let UploadBounds { per_producer, total_bytes } = self.settings.bounds;
        match self.deps.catalogue.begin_upload(&upload, self.settings.bounds).await? {
            BeginOutcome::Begun => Ok(upload),
            BeginOutcome::TooMany => Err(ResumableError::TooMany { limit: per_producer }),
            BeginOutcome::NoRoom => Err(ResumableError::NoRoom { limit: total_bytes }),
        }
    }

    /// An upload of this producer, or of any when there is none.
    ///
    /// # Errors
    /// `Unknown` also for an upload of another producer.
    pub async fn find(&self, id: UploadId, of: Option<ProducerId>) -> Result<ResumableUpload, ResumableError> {
        let found = self.deps.catalogue.resumable_upload(id).await?;
        found.filter(|upload| of.is_none_or(|of| of == upload.producer_id)).ok_or(ResumableError::Unknown)
    }

    /// Begins to append to an upload at its end. `held`: no byte counts before [`Append::end`], because the bytes have yet to be
    /// compared with something.
    ///
    /// # Errors
    /// `Offset` when the upload does not end there.
    pub async fn append(
        &self,
        id: UploadId,
        of: Option<ProducerId>,
        offset: u64,
        held: bool,
    ) -> Result<Append, ResumableError> {
        let upload = self.find(id, of).await?;
        if upload.kind == UploadKind::Final {
            return Err(ResumableError::Final);
        }
        if upload.offset_bytes != offset {
            return Err(ResumableError::Offset { offset: upload.offset_bytes });
        }
        let permit = self.deps.ingest.admit_in_parts(upload.producer_id)?;
        Ok(Append::new(self.clone(), upload, held, permit))
    }

    /// Removes an upload and its parts. A content that was made of them stays.
    ///
    /// # Errors
    /// `Unknown`.
    pub async fn remove(&self, id: UploadId, of: Option<ProducerId>) -> Result<(), ResumableError> {
        self.find(id, of).await?;
        self.remove_whole(id).await?;
        Ok(())
    }

    async fn remove_whole(&self, id: UploadId) -> PortResult<()> {
        let parts = self.deps.catalogue.kept_parts(id).await?;
        self.deps.catalogue.remove_upload(id).await?;
        self.remove_parts(id, &parts);
        Ok(())
    }

    /// Makes a content of the parts of the uploads `of`, or of the upload's own, and of the last bytes.
    async fn finish(
        &self,
        upload: ResumableUpload,
        of: &[UploadId],
        tail: Bytes,
        permit: UploadPermit,
    ) -> Result<ResumableUpload, ResumableError> {
        let ResumableDeps { catalogue, .. } = &self.deps;
        let (id, holder) = (upload.upload_id, Uuid::new_v4());
        if !catalogue.hold_upload(id, holder, HOLD).await? {
            return Err(ResumableError::Busy);
        }
        let own = [id];
        let of = if of.is_empty() { &own[..] } else { of };
        let stored = Box::pin(self.store(&upload, of, tail, holder, permit)).await;
        match stored {
            Ok(content) => self.complete(upload, content.meta.content_hash).await,
            Err(error @ ResumableError::Ingest(IngestError::DigestMismatch { .. })) => {
                // These bytes can never be that content.
                self.remove_whole(id).await?;
                Err(error)
            }
            Err(error) => {
                if let Err(error) = catalogue.hold_upload(id, holder, Duration::ZERO).await {
                    tracing::debug!(upload_id = %id, %error, "the hold on an upload was not given back; it ends by itself");
                }
                // Another request may have completed it, and removed the parts that this one read.
                match self.find(id, None).await {
                    Ok(now) if now.is_complete() => Ok(now),
                    _ => Err(error),
                }
            }
        }
    }

    async fn complete(&self, upload: ResumableUpload, content: ContentHash) -> Result<ResumableUpload, ResumableError> {
        let id = upload.upload_id;
        let parts = self.deps.catalogue.kept_parts(id).await?;
        let expires_at = self.expiry();
        if self.deps.catalogue.complete_upload(id, upload.offset_bytes, content, expires_at).await? {
            self.remove_parts(id, &parts);
            let offset_bytes = upload.length_bytes;
            return Ok(ResumableUpload { content_hash: Some(content), offset_bytes, parts: 0, expires_at, ..upload });
        }
        // Another request has completed it, or has removed it.
        let now = self.find(id, None).await?;
        if now.is_complete() { Ok(now) } else { Err(ResumableError::Offset { offset: now.offset_bytes }) }
    }

    async fn store(
        &self,
        upload: &ResumableUpload,
        of: &[UploadId],
        tail: Bytes,
        holder: Uuid,
        permit: UploadPermit,
    ) -> Result<UploadedContent, ResumableError> {
        let ResumableDeps { catalogue, parts, ingest, clock, .. } = &self.deps;
        let mut content = ingest.begin_admitted(permit).await?;
        let mut size = tail.len() as u64;
        let mut held_at = clock.monotonic();
        for &id in of {
            for NewPart { part_id, size_bytes, .. } in catalogue.kept_parts(id).await? {
                let bytes = parts.read_part(PartName { upload_id: id, part_id }).await?;
                if bytes.len() as u64 != size_bytes {
                    let what = format!("part {part_id} of upload {id} has {} bytes of {size_bytes}", bytes.len());
                    return Err(PortError::Corrupt(what).into());
                }
                size += size_bytes;
                pass_on(&mut content, bytes).await?;
                if clock.monotonic().duration_since(held_at) > HOLD / 3 {
                    held_at = clock.monotonic();
                    catalogue.hold_upload(upload.upload_id, holder, HOLD).await?;
                }
            }
        }
        if size != upload.length_bytes {
            // Another request has completed the upload, and its parts are gone.
            return Err(ResumableError::Busy);
        }
        pass_on(&mut content, tail).await?;
        Ok(content.finish(upload.declared_hash, upload.media_type.clone(), upload.producer_id).await?)
    }

    /// Removes parts that no upload counts, without waiting. Parts that stay, because of an error or a kill, are the Janitor's.
    fn remove_parts(&self, id: UploadId, parts: &[NewPart]) {
        if parts.is_empty() {
            return;
        }
        let (store, catalogue) = (Arc::clone(&self.deps.parts), Arc::clone(&self.deps.catalogue));
        let names: Vec<PartName> = parts.iter().map(|part| PartName { upload_id: id, part_id: part.part_id }).collect();
        self.deps.io.spawn(async move {
            if let Err(error) = remove(&*store, &*catalogue, names).await {
                tracing::warn!(upload_id = %id, %error, "parts of an upload that has ended cannot be removed; the Janitor removes them later");
            }
        });
    }

    fn expiry(&self) -> Timestamp {
        self.deps.clock.now().checked_add(self.settings.ttl).unwrap_or(Timestamp::MAX)
    }
}

async fn pass_on(content: &mut crate::content::upload::Upload, mut bytes: Bytes) -> Result<(), IngestError> {
    while !bytes.is_empty() {
        content.write(bytes.split_to(bytes.len().min(PIECE))).await?;
    }
    Ok(())
}

/// Removes parts from the store, and then from the catalogue.
///
/// # Errors
/// The first error; the parts that could be removed are forgotten all the same.
pub(crate) async fn remove(
    store: &dyn UploadParts,
    catalogue: &dyn ResumableUploads,
    names: Vec<PartName>,
) -> PortResult<u64> {
    let removing = stream::iter(names).map(|name| async move { store.remove_part(name).await.map(|()| name) });
    let ended: Vec<PortResult<PartName>> = removing.buffer_unordered(REMOVALS).collect().await;
    let (mut removed, mut failed) = (Vec::new(), None);
    for end in ended {
        match end {
            Ok(name) => removed.push(name),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    catalogue.forget_parts(&removed).await?;
    failed.map_or(Ok(removed.len() as u64), Err)
}
