//! Bytes that are appended to an upload.

use bytes::{Bytes, BytesMut};

use super::{MOST_PARTS, ResumableError, ResumableIngest};
use crate::{
    content::upload::UploadPermit,
    ids::PartId,
    model::{NewPart, PartName, ResumableUpload, UploadKind},
    ports::PART_BYTES,
};

/// The bytes of one request. Dropping it keeps the parts that count already.
pub struct Append {
    to: ResumableIngest,
    /// As the catalogue has it, as far as this request knows.
    upload: ResumableUpload,
    /// Whether no byte counts before the end.
    held: bool,
    /// Parts that are stored and do not count yet.
    loose: Vec<NewPart>,
    /// Bytes that are not stored yet.
    buffer: BytesMut,
    permit: UploadPermit,
}

impl Append {
    pub(super) fn new(to: ResumableIngest, upload: ResumableUpload, held: bool, permit: UploadPermit) -> Self {
        Self { to, upload, held, loose: Vec::new(), buffer: BytesMut::new(), permit }
    }

    /// Where the stored parts of this request end.
    fn stored(&self) -> u64 {
        self.loose.last().map_or(self.upload.offset_bytes, |part| part.from_byte + part.size_bytes)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `TooLong` past the length of the upload; `Offset` when another request appended meanwhile.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), ResumableError> {
        let length = self.upload.length_bytes;
        if self.stored() + (self.buffer.len() + bytes.len()) as u64 > length {
            return Err(ResumableError::TooLong { length });
        }
        while !bytes.is_empty() {
            // Not before there are more: the last bytes are kept back for the content.
            if self.buffer.len() == PART_BYTES {
                self.store().await?;
            }
            let room = PART_BYTES - self.buffer.len();
            self.buffer.extend_from_slice(&bytes.split_to(bytes.len().min(room)));
        }
        Ok(())
    }

    /// Counts all bytes, and completes the upload if it has all of them.
    ///
    /// # Errors
    /// As [`write`](Self::write), and those of the ingest.
    pub async fn end(mut self) -> Result<ResumableUpload, ResumableError> {
        if self.upload.is_complete() {
            return Ok(self.upload);
        }
        let is_whole = self.stored() + self.buffer.len() as u64 == self.upload.length_bytes;
        if is_whole && self.upload.kind == UploadKind::Whole {
            self.keep().await?;
            let Self { to, upload, buffer, permit, .. } = self;
            return to.finish(upload, &[], buffer.freeze(), permit).await;
        }
        if !self.buffer.is_empty() {
            self.store().await?;
        }
        self.keep().await?;
        Ok(self.upload)
    }

    /// The request has broken off: counts what arrived, unless it is held.
    ///
    /// # Errors
    /// As [`end`](Self::end).
    pub async fn broken_off(self) -> Result<(), ResumableError> {
        if self.held {
            self.discard();
            return Ok(());
        }
        self.end().await.map(drop)
    }

    /// Drops the bytes that do not count yet.
    pub fn discard(self) {
        self.to.remove_parts(self.upload.upload_id, &self.loose);
    }

    /// Stores the gathered bytes as a part.
    async fn store(&mut self) -> Result<(), ResumableError> {
        if self.upload.parts as usize + self.loose.len() >= MOST_PARTS as usize {
            return Err(ResumableError::TooManyParts);
        }
        let (part_id, from_byte) = (PartId::random(), self.stored());
        let name = PartName { upload_id: self.upload.upload_id, part_id };
        let bytes = self.buffer.split().freeze();
        let size_bytes = bytes.len() as u64;
        self.to.deps.catalogue.add_part(name, self.to.deps.clock.now()).await?;
        self.to.deps.parts.put_part(name, bytes).await?;
        self.loose.push(NewPart { part_id, from_byte, size_bytes });
        if self.held { Ok(()) } else { self.keep().await }
    }

    /// Has the catalogue count the stored parts.
    async fn keep(&mut self) -> Result<(), ResumableError> {
        let Some(last) = self.loose.last() else { return Ok(()) };
        let end = last.from_byte + last.size_bytes;
        let (id, from, expires_at) = (self.upload.upload_id, self.upload.offset_bytes, self.to.expiry());
        if !self.to.deps.catalogue.keep_parts(id, from, &self.loose, expires_at).await? {
            self.to.remove_parts(id, &self.loose);
            self.loose.clear();
            let now = self.to.find(id, None).await?;
            return Err(ResumableError::Offset { offset: now.offset_bytes });
        }
        self.upload.offset_bytes = end;
        self.upload.parts += u32::try_from(self.loose.len()).unwrap_or(MOST_PARTS);
        self.upload.expires_at = expires_at;
        self.loose.clear();
        Ok(())
    }
}
