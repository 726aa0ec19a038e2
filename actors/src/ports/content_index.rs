//! The content index: which contents are announced and stored, with their size and media type.
//!
//! **Callers:** `Ingest` announces, completes and notes who sent the bytes, which the route of new assets asks for; the Janitor and `StoreGuard` ask which blobs it does not know; the gate of
//! governance and the cache warmer read entries. **Errors:** an error is no answer: a blob counts as unknown only if the index
//! says so. **Bound:** the callers bound the hashes of one question; a withdrawal takes a limit.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::{ContentHash, ProducerId},
    model::ContentMeta,
};

/// The index of stored contents.
#[async_trait]
pub trait ContentIndex: Send + Sync + 'static {
    /// The index entry of a stored content; `None` also while its upload is incomplete. The media type is the one that
    /// was given by the producer that stored it.
    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>>;

    /// The same, with the media type that this producer gave at its last upload of these bytes, whichever other
    /// producers have them.
    async fn content_of(&self, hash: ContentHash, producer: ProducerId) -> PortResult<Option<ContentMeta>>;

    /// Announces content before its blob becomes visible, so that a sweep leaves the blob alone. For content that is
    /// already stored, only the media type of this producer changes. Refreshes the age of an existing announcement.
    async fn announce_content(&self, meta: &ContentMeta, by: ProducerId) -> PortResult<()>;

    /// Marks announced content as stored. True when this call did it, false when it already was.
    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool>;

    /// Notes that this producer has sent all bytes of an announced or stored content. True the first time.
    async fn note_upload(&self, hash: ContentHash, by: ProducerId) -> PortResult<bool>;

    /// Whether this producer has sent all bytes of a content. Knowing the hash is no proof: it is in the catalogue.
    async fn has_uploaded(&self, hash: ContentHash, producer: ProducerId) -> PortResult<bool>;

    /// Those of these hashes that the index does not have, neither announced nor stored.
    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>>;

    /// Withdraws up to `limit` announcements older than `before` that were never completed; returns how many.
    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}
