//! The installation: a database, and the stores and instances that belong to it.

use jiff::Timestamp;

use crate::ids::{InstallationId, StoreId};

/// The installation that a database belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation {
    /// Made with the database, and never changed: a copy and a restored dump have it too.
    pub installation_id: InstallationId,
    /// When the database was made, by its own clock.
    pub created_at: Timestamp,
}

/// The store of a tier, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedStore {
    /// Where it was when it was last marked, for people to read.
    pub place: String,
    /// The one that its mark names; `None` where it was marked by a version that told no stores apart.
    pub store_id: Option<StoreId>,
}
