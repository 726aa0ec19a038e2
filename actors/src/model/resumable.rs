//! A resumable upload: content that arrives in several requests.

use jiff::Timestamp;

use crate::ids::{ContentHash, PartId, ProducerId, UploadId};

/// What becomes of the bytes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadKind {
    /// They are a content.
    Whole,
    /// They are a piece of a content, for a final upload.
    Partial,
    /// They are the bytes of partial uploads, one after another.
    Final,
}

impl UploadKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Final => "final",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Whole, Self::Partial, Self::Final].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A resumable upload, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumableUpload {
    pub upload_id: UploadId,
    pub producer_id: ProducerId,
    pub kind: UploadKind,
    /// The list of partial uploads that the client gave for a final upload; empty for others.
    pub concat: String,
    pub length_bytes: u64,
    /// The bytes that are durable. The last part of a whole upload counts only when the content is stored.
    pub offset_bytes: u64,
    /// The parts that hold these bytes.
    pub parts: u32,
    pub media_type: String,
    /// The hash that the client declared.
    pub declared_hash: Option<ContentHash>,
    /// The metadata as the client wrote it.
    pub metadata: String,
    /// The stored content.
    pub content_hash: Option<ContentHash>,
    /// The Janitor removes the upload after this time. Each part that arrives sets a later one.
    pub expires_at: Timestamp,
}

impl ResumableUpload {
    /// Whether all bytes have arrived, and the content, if they are one, is stored.
    pub fn is_complete(&self) -> bool {
        match self.kind {
            UploadKind::Partial => self.offset_bytes == self.length_bytes,
            UploadKind::Whole | UploadKind::Final => self.content_hash.is_some(),
        }
    }
}

/// Bounds of the uploads whose bytes are kept: those that are no stored content yet.
#[derive(Debug, Clone, Copy)]
pub struct UploadBounds {
    /// Uploads of one producer.
    pub per_producer: u32,
    /// The sum of the lengths of all uploads.
    pub total_bytes: u64,
}

/// The name of a stored part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartName {
    pub upload_id: UploadId,
    pub part_id: PartId,
}

/// A part with its place in its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPart {
    pub part_id: PartId,
    pub from_byte: u64,
    pub size_bytes: u64,
}
