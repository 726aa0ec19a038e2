//! Whose a store of blobs is: each tier's carries a mark with the identity of its installation, so that a store and a database
//! that do not belong together are told from a store that is new, and a store that is away from one that is empty.

use async_trait::async_trait;

use super::{BlobStore, PortResult};
use crate::{
    ids::{ContentHash, InstallationId},
    model::Tier,
};

/// What is in the place of a store's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The mark of this installation.
    Of(InstallationId),
    /// Something that is no mark.
    Unreadable,
    /// Nothing; and whether there is anything else that blobs are kept in.
    None { is_empty: bool },
}

/// A blob store whose tiers carry marks.
#[async_trait]
pub trait StoreMarks: BlobStore {
    /// Where the store of a tier is, for people to read.
    fn place(&self, tier: Tier) -> String;

    /// The mark of a tier's store as it is now. A store that does not exist is an empty one without a mark.
    async fn mark(&self, tier: Tier) -> PortResult<Mark>;

    /// Marks the store of a tier, and makes it where it does not exist. A mark that is there stays unless it is to be replaced.
    async fn set_mark(&self, tier: Tier, of: InstallationId, replace: bool) -> PortResult<()>;

    /// Makes what a store that exists needs beside its blobs, and a copy of it may have left out.
    async fn prepare(&self, tier: Tier) -> PortResult<()>;

    /// Up to `limit` contents in one tier whose names come after this one, in order.
    async fn sample(&self, tier: Tier, after: ContentHash, limit: usize) -> PortResult<Vec<ContentHash>>;
}
