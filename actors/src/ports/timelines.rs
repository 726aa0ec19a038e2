//! Which history a database is in.
//!
//! A dump holds leases of instances that are not in it any more, and lacks what was committed after it. So a restored database is a
//! new history: nobody who lived in the last one lives in it, nothing that was leased then is charged, and nothing that instances
//! keep in memory is of it.

use async_trait::async_trait;

use super::PortResult;
use crate::{
    ids::TimelineId,
    model::{NewTimeline, Timeline},
};

/// The histories of a database.
#[async_trait]
pub trait Timelines: Send + Sync + 'static {
    async fn timeline(&self) -> PortResult<Timeline>;

    /// Begins a history after this one, in one transaction: all epochs are fenced, and what they lease is released by the next steps
    /// of reclaiming. When another instance has begun one already, nothing changes, and that one is the answer.
    async fn begin_timeline(&self, after: TimelineId, reason: &str) -> PortResult<NewTimeline>;
}
