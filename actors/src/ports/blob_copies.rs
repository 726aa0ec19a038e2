//! The copies of a blob, one for each tier of the store.
//!
//! **Callers:** `Verifier`, which inspects and repairs copies, and `Mover`. **Errors:** `Unavailable` says nothing about a copy:
//! it is neither missing nor damaged. Each call may be repeated. **Bound:** as for the [`BlobStore`](super::BlobStore).

use std::sync::Arc;

use async_trait::async_trait;

use super::{BlobSink, BlobSource, PortResult};
use crate::{ids::ContentHash, model::StorageTier};

/// The copies in the tiers of a store.
#[async_trait]
pub trait BlobCopies: Send + Sync + 'static {
    /// The configured tiers, hottest first. The hot one, which takes new content, is always among them.
    fn tiers(&self) -> Vec<StorageTier>;

    /// Opens the bytes of the copy in one tier, whatever the state of the data beside them; `None` when there is no copy.
    ///
    /// # Errors
    /// `Corrupt` when the remains of the copy lead to no bytes.
    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>>;

    /// Begins a copy in one tier. Its commit replaces an existing copy there, whatever its state.
    async fn create_copy(&self, tier: StorageTier) -> PortResult<Box<dyn BlobSink>>;

    /// Switches new readers to other copies: from now on this copy is used only when no other is usable. Readers that
    /// have it open go on. True when there is a copy that was in use until now.
    async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool>;

    /// Removes the copy in one tier, or its remains. Succeeds when there is none.
    async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()>;
}

/// The copy of a blob in one tier, in its present state.
pub struct StoredCopy {
    /// The number of bytes it has.
    pub size_bytes: u64,
    /// Whether the data beside the bytes is whole and fits their number: without it readers cannot use them.
    pub is_usable: bool,
    /// Whether readers were switched to another copy.
    pub is_demoted: bool,
    pub source: Arc<dyn BlobSource>,
}
