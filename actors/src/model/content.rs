//! Content: an immutable blob, and the hash list that lets a part of it be verified alone.

use jiff::Timestamp;

use crate::ids::ContentHash;

/// Bytes covered by one leaf hash: the unit in which stored bytes are verified and cached.
pub const LEAF_BYTES: u64 = 1 << 20;

/// SHA-256 of one leaf.
pub type LeafHash = [u8; 32];

/// Leaves of a content of this size. An empty content has none.
pub const fn leaf_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(LEAF_BYTES)
}

/// The media type of what nobody said what it is.
pub const UNSAID_MEDIA_TYPE: &str = "application/octet-stream";

/// What the storage index knows of a stored content. All but the media type never changes once stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentMeta {
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    /// A hash has none by itself: this is what the one calls it for whom it was looked up. For a receipt that is its asset; for a
    /// producer, what it said when it uploaded the bytes; [`UNSAID_MEDIA_TYPE`] where nothing was said.
    pub media_type: String,
    pub stored_at: Timestamp,
}
