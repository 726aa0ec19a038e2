//! The invalidation bus: tells all instances at once which cached data is outdated.
//!
//! **Callers:** `ChangePublisher` announces changes, the quota shards ask for a recall, and the node listens. **Errors:** other
//! instances read the change in the log of changes, later. **Bound:** a listener that lags too far behind loses the oldest tags,
//! and its receiver says so.

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{PortResult, Tag};

/// Published tags, on every instance. This is a hint that saves time: the log of changes ([`Changes`](super::Changes))
/// has every change whose message was lost.
pub type Invalidations = broadcast::Receiver<Tag>;

/// The messages about changes.
#[async_trait]
pub trait InvalidationBus: Send + Sync + 'static {
    /// Tells every listening instance that data with these tags has changed.
    async fn invalidate(&self, tags: &[Tag]) -> PortResult<()>;

    /// Whether published tags reach other instances. Otherwise those read them in the log of changes at best.
    fn reaches_others(&self) -> bool {
        true
    }

    /// Tags published from now on, including this instance's own.
    fn invalidations(&self) -> Invalidations;
}
