//! Content: an immutable blob, and the list of leaf hashes by which each part can be verified alone.

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

/// The media type of content whose media type was not declared.
pub const UNSAID_MEDIA_TYPE: &str = "application/octet-stream";

/// An entry of the storage index. Only the media type may change once the content is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentMeta {
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    /// A hash alone has no media type: this is the one declared by the owner for whom the content was looked up. For a
    /// receipt, that of its asset; for a producer, the one given with its upload; [`UNSAID_MEDIA_TYPE`] where none was given.
    pub media_type: String,
    pub stored_at: Timestamp,
}
