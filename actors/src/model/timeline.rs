//! Timelines: the histories of one database.

use crate::ids::TimelineId;

/// The history that a database is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    pub timeline_id: TimelineId,
    /// The database was restored into another place, and goes on with a history that ended elsewhere: nobody has begun a new one yet.
    pub moved: bool,
}

/// A history that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTimeline {
    pub timeline_id: TimelineId,
    /// Leases that instances held at the end of the last one. They are released.
    pub leases: u64,
    pub bytes: u64,
}
