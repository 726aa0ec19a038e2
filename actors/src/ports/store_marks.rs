//! Marks of stores: the store of each tier carries the id of its installation. So a store of another installation can
//! be told from a new one, and an absent store from an empty one.

use async_trait::async_trait;

use super::{BlobCopies, BlobStore, BlobTrash, PortResult, UploadParts};
use crate::{
    ids::{ContentHash, InstallationId, StoreId},
    model::StorageTier,
};

/// The contents of the place of a store's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The mark of this installation, with the id of the store; marks of earlier versions have no id.
    Of(InstallationId, Option<StoreId>),
    /// Something other than a mark.
    Unreadable,
    /// No mark. `is_empty`: the store has no blobs either.
    None { is_empty: bool },
}

/// A blob store whose tiers carry marks.
#[async_trait]
pub trait StoreMarks: BlobStore + BlobCopies + BlobTrash + UploadParts {
    /// The place of a tier's store, for people to read.
    fn place(&self, tier: StorageTier) -> String;

    /// The current mark of a tier's store. A store that does not exist counts as empty, without a mark.
    async fn mark(&self, tier: StorageTier) -> PortResult<Mark>;

    /// An id for the store of a tier, for a new mark: no other store has it.
    fn identify(&self, tier: StorageTier, of: InstallationId) -> StoreId;

    /// Marks the store of a tier, and makes the store if it does not exist. An existing mark stays unless `replace` is true.
    async fn set_mark(&self, tier: StorageTier, of: InstallationId, store: StoreId, replace: bool) -> PortResult<()>;

    /// Makes the folders or objects that a store needs beside its blobs, and that a copy of it may lack.
    async fn prepare(&self, tier: StorageTier) -> PortResult<()>;

    /// Up to `limit` contents of one tier whose names sort after `after`, in order.
    async fn sample(&self, tier: StorageTier, after: ContentHash, limit: usize) -> PortResult<Vec<ContentHash>>;
}
