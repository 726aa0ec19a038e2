//! The timeline of a database.
//!
//! A dump contains leases of instances that no longer have them, and lacks everything that was committed after it. So a
//! restored database begins a new timeline: no epoch of the old one is alive in it, no lease of the old one is charged,
//! and nothing in the memory of instances belongs to it.

use async_trait::async_trait;

use super::PortResult;
use crate::{
    ids::TimelineId,
    model::{NewTimeline, Timeline},
};

/// The timelines of a database.
#[async_trait]
pub trait Timelines: Send + Sync + 'static {
    async fn timeline(&self) -> PortResult<Timeline>;

    /// Begins a timeline after this one, in one transaction: all epochs are fenced, and the next steps of reclaiming
    /// release their leases. When another instance has already begun one, nothing changes, and that one is returned.
    async fn begin_timeline(&self, after: TimelineId, reason: &str) -> PortResult<NewTimeline>;
}
