//! Ingest: uploads. Bytes are hashed, whole and per leaf, while they stream to the blob store.
//!
//! The path has no actor: an upload has no state but its own. Hashing and writing share one blocking thread per upload,
//! fed by a bounded channel, so neither blocks a web worker. The order of the last steps keeps a sweep from removing a
//! blob that was just uploaded: announce in the catalogue, make the blob visible, complete in the catalogue. Content in
//! quarantine that is uploaded again replaces the stored copy, is verified, and is released to readers if it is intact.
//!
//! **Bound.** `concurrent` uploads at a time, of which one producer cannot take all, each with at most [`PARTS_AHEAD`]
//! parts in memory. A dropped upload leaves nothing that a reader could see.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    clock::Clock,
    content::quarantine::Quarantine,
    flow::{
        admission::AdmissionSnapshot,
        fairness::{FairAdmission, FairPermit, NotAdmitted},
    },
    ids::{ContentHash, ProducerId},
    model::{ContentMeta, LEAF_BYTES, LeafHash},
    ports::{BlobSink, BlobStore, ContentIndex, PortError, PortResult},
    task_span::InTaskSpan as _,
};

/// Parts between the connection and the disk. A part is the result of one read from the connection, at most 128 KiB.
const PARTS_AHEAD: usize = 4;

/// Bounds of ingest.
#[derive(Debug, Clone, Copy)]
pub struct IngestSettings {
    /// The largest content.
    pub max_bytes: u64,
    /// Uploads at a time.
    pub concurrent: u32,
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

/// The right of a producer to an upload.
pub(crate) type UploadPermit = FairPermit<ProducerId>;

/// Dependencies of the ingest.
#[derive(Clone)]
pub struct IngestDeps {
    pub blobs: Arc<dyn BlobStore>,
    pub index: Arc<dyn ContentIndex>,
    pub clock: Arc<dyn Clock>,
    /// Hashing and writing run here.
    pub io: Handle,
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
    max_bytes: u64,
}

impl Ingest {
    pub fn new(deps: IngestDeps, settings: IngestSettings) -> Self {
        let admission = FairAdmission::new("uploads", settings.concurrent);
        Self { deps, admission, max_bytes: settings.max_bytes }
    }

    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub fn queue(&self) -> AdmissionSnapshot {
        self.admission.snapshot()
    }

    /// Begins an upload of this producer.
    ///
    /// # Errors
    /// `Overloaded` or `ProducerHasShare` when there are too many; the store's own.
    pub async fn begin(&self, producer: ProducerId) -> Result<Upload, IngestError> {
        self.begin_admitted(self.admit(producer)?).await
    }

    /// Takes the permit of an upload.
    ///
    /// # Errors
    /// `Overloaded` or `ProducerHasShare` when there are too many.
    pub(crate) fn admit(&self, producer: ProducerId) -> Result<UploadPermit, IngestError> {
        self.admission.try_admit(producer).map_err(|refusal| match refusal {
            NotAdmitted::Full => IngestError::Overloaded,
            NotAdmitted::HolderHasShare { held } => IngestError::ProducerHasShare { held },
        })
    }

    /// Begins an upload that has its permit.
    ///
    /// # Errors
    /// The store's own.
    pub(crate) async fn begin_admitted(&self, permit: UploadPermit) -> Result<Upload, IngestError> {
        let sink = self.deps.blobs.create().await?;
        Ok(Upload { ingest: self.clone(), writer: Writer::start(sink, &self.deps.io), taken: 0, _permit: permit })
    }
}

/// A blob that a thread of its own hashes and writes. Dropping it undoes it.
pub(crate) struct Writer {
    parts: mpsc::Sender<Command>,
    thread: JoinHandle<PortResult<()>>,
}

impl Writer {
    pub(crate) fn start(sink: Box<dyn BlobSink>, io: &Handle) -> Self {
        let (parts, inbox) = mpsc::channel(PARTS_AHEAD);
        let here = io.clone();
        // The thread works for the request.
        let written = write_out(sink, inbox).in_task_span();
        Self { parts, thread: io.spawn_blocking(move || here.block_on(written)) }
    }

    /// Takes the next part. A write that failed shows with one of the next ones.
    pub(crate) async fn write(&mut self, part: Bytes) -> PortResult<()> {
        if self.parts.send(Command::Write(part)).await.is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// The hash and the number of the bytes written so far.
    pub(crate) async fn digest(&mut self) -> PortResult<(ContentHash, u64)> {
        self.ask(Command::Digest).await
    }

    /// Makes the commit [replace](BlobSink::replace) any blob that has this name.
    pub(crate) async fn replace(&mut self) -> PortResult<()> {
        self.ask(Command::Replace).await
    }

    /// Makes the blob visible under its name.
    pub(crate) async fn commit(&mut self) -> PortResult<()> {
        self.ask(Command::Commit).await
    }

    async fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> PortResult<T> {
        let (reply, answer) = oneshot::channel();
        if self.parts.send(command(reply)).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return Ok(answer);
        }
        Err(self.failure().await)
    }

    /// Why the thread ended.
    async fn failure(&mut self) -> PortError {
        match (&mut self.thread).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => PortError::unavailable("the blob store", "the writer ended"),
            Err(panicked) => PortError::unavailable("the blob store", panicked),
        }
    }
}

enum Command {
    Write(Bytes),
    /// Asks for the hash and the number of the bytes written so far.
    Digest(oneshot::Sender<(ContentHash, u64)>),
    Replace(oneshot::Sender<()>),
    Commit(oneshot::Sender<()>),
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
        if self.taken > self.ingest.max_bytes {
            return Err(IngestError::TooLarge { limit: self.ingest.max_bytes });
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

/// The writer's thread: hashes and writes until it has committed, or until the upload is dropped. A failure ends it, which
/// the upload notices with its next part.
async fn write_out(mut sink: Box<dyn BlobSink>, mut inbox: mpsc::Receiver<Command>) -> PortResult<()> {
    let mut hashes = Hashes::default();
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Write(part) => {
                hashes.update(&part);
                sink.write(part).await?;
            }
            Command::Digest(reply) => {
                let _ = reply.send(hashes.finish());
            }
            Command::Replace(reply) => {
                sink.replace();
                let _ = reply.send(());
            }
            Command::Commit(reply) => {
                sink.commit(hashes.finish().0, &hashes.leaves).await?;
                let _ = reply.send(());
                break;
            }
        }
    }
    Ok(())
}

/// The running hashes of an upload: of the whole, and of each leaf.
#[derive(Default)]
struct Hashes {
    whole: Sha256,
    leaf: Sha256,
    in_leaf: u64,
    size: u64,
    leaves: Vec<LeafHash>,
}

impl Hashes {
    fn update(&mut self, mut part: &[u8]) {
        self.whole.update(part);
        self.size += part.len() as u64;
        while !part.is_empty() {
            let room = (LEAF_BYTES - self.in_leaf) as usize;
            let (now, later) = part.split_at(part.len().min(room));
            self.leaf.update(now);
            self.in_leaf += now.len() as u64;
            if self.in_leaf == LEAF_BYTES {
                self.end_leaf();
            }
            part = later;
        }
    }

    fn end_leaf(&mut self) {
        self.leaves.push(self.leaf.finalize_reset().into());
        self.in_leaf = 0;
    }

    /// Ends the last leaf; the name and the size.
    fn finish(&mut self) -> (ContentHash, u64) {
        if self.in_leaf > 0 {
            self.end_leaf();
        }
        (ContentHash::from_bytes(self.whole.clone().finalize().into()), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::leaf_count;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn hashes_do_not_depend_on_how_the_bytes_arrive(size in 0_usize..3 << 20, cuts in proptest::collection::vec(1_usize..1 << 20, 1..8)) {
            let content: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let mut hashes = Hashes::default();
            let (mut rest, mut cuts) = (&content[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (part, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                hashes.update(part);
                rest = later;
            }
            let whole: [u8; 32] = Sha256::digest(&content).into();
            prop_assert_eq!(hashes.finish(), (ContentHash::from_bytes(whole), size as u64));
            let leaves: Vec<LeafHash> =
                content.chunks(LEAF_BYTES as usize).map(|leaf| Sha256::digest(leaf).into()).collect();
            prop_assert_eq!(leaves.len() as u64, leaf_count(size as u64));
            prop_assert_eq!(hashes.leaves, leaves);
        }
    }
}
