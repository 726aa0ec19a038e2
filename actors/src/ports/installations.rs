//! Which installation a database is the heart of.

use async_trait::async_trait;

use super::PortResult;
use crate::model::Installation;

/// The identity of an installation, as its database has it.
#[async_trait]
pub trait Installations: Send + Sync + 'static {
    /// The installation that this database belongs to: always the same one, on the primary.
    async fn installation(&self) -> PortResult<Installation>;
}
