//! The installation that a database belongs to, and the stores that it has.

use async_trait::async_trait;

use super::PortResult;
use crate::model::{Installation, NotedStore, StorageTier};

/// The identity of an installation, as its database has it.
#[async_trait]
pub trait Installations: Send + Sync + 'static {
    /// The installation that this database belongs to: it never changes. Read on the primary.
    async fn installation(&self) -> PortResult<Installation>;

    /// The installation, and the store of a tier that was last marked as the installation's, by one statement; `None` when the tier has
    /// no store.
    async fn store_of(&self, tier: StorageTier) -> PortResult<(Installation, Option<NotedStore>)>;

    /// Records the store of a tier, unless a store is recorded; a record without a store's id takes this id. Returns the record that
    /// then stands: of several callers at once, all get the record of the first.
    async fn claim_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<NotedStore>;

    /// Records that this is the store of a tier, whichever store was recorded before.
    async fn note_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<()>;
}
