//! The installation: a database, and the stores and instances that belong to it.

use jiff::Timestamp;

use crate::ids::InstallationId;

/// The installation that a database belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation {
    /// Made with the database, and never changed: a copy and a restored dump have it too.
    pub installation_id: InstallationId,
    /// When the database was made, by its own clock.
    pub created_at: Timestamp,
}
