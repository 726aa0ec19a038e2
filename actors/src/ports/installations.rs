//! Which installation a database is the heart of, and which stores it has.

use async_trait::async_trait;

use super::PortResult;
use crate::model::{Installation, Tier};

/// The identity of an installation, as its database has it.
#[async_trait]
pub trait Installations: Send + Sync + 'static {
    /// The installation that this database belongs to: always the same one, on the primary.
    async fn installation(&self) -> PortResult<Installation>;

    /// Where the store of a tier was when it was last marked as this installation's; `None` when it has none.
    async fn store_of(&self, tier: Tier) -> PortResult<Option<String>>;

    /// Notes that a tier has a store, at this place, which is marked as this installation's.
    async fn note_store(&self, tier: Tier, place: &str) -> PortResult<()>;
}
