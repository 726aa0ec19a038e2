//! The installation: a database, and the stores and instances that belong to it.

use jiff::Timestamp;

use crate::ids::InstallationId;

/// What a database says of the installation that it is the heart of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation {
    /// Made with the database, and never changed: a copy and a restored dump have it too.
    pub installation_id: InstallationId,
    /// When the database began, by its own clock.
    pub created_at: Timestamp,
}
