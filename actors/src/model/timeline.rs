//! Timelines: the histories of one database.

use crate::ids::TimelineId;

/// The timeline that a database is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    pub timeline_id: TimelineId,
    /// The database was restored into another place and has no timeline of its own yet: it still has one that ended
    /// elsewhere.
    pub moved: bool,
}

/// A timeline that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTimeline {
    pub timeline_id: TimelineId,
    /// Leases that instances held at the end of the previous one. They are released.
    pub leases: u64,
    pub bytes: u64,
}
