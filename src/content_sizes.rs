//! `ContentSizes`: the sizes of contents that were streamed or warmed.
//!
//! A range is read against the size before the receipt is asked about. A size never changes, so nothing here goes out of date.
//! **Bound.** `streams.content_entries` contents; the one that was used least goes first.

use moka::future::Cache;
use penstock_actors::ids::ContentHash;

/// Sizes of contents, which never change: a range is parsed with them before the receipt is checked.
pub struct ContentSizes(Cache<ContentHash, u64>);

impl ContentSizes {
    /// Remembers at most this many contents.
    pub fn new(entries: u64) -> Self {
        Self(Cache::new(entries))
    }

    /// Remembers the size of a content.
    pub async fn remember(&self, hash: ContentHash, size: u64) {
        self.0.insert(hash, size).await;
    }

    /// The size of a content, if it is remembered.
    pub async fn get(&self, hash: &ContentHash) -> Option<u64> {
        self.0.get(hash).await
    }
}
