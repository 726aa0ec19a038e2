//! The installation that a database belongs to, and the stores that it has.

use async_trait::async_trait;

use super::PortResult;
use crate::model::{Installation, Tier};

/// The identity of an installation, as its database has it.
#[async_trait]
pub trait Installations: Send + Sync + 'static {
    /// The installation that this database belongs to: it never changes. Read on the primary.
    async fn installation(&self) -> PortResult<Installation>;

    /// The place of a tier's store when it was last marked as this installation's; `None` when the tier has no store.
    async fn store_of(&self, tier: Tier) -> PortResult<Option<String>>;

    /// Records that a tier has a store, at this place, which is marked as this installation's.
    async fn note_store(&self, tier: Tier, place: &str) -> PortResult<()>;
}
