//! The database's clock, and the last time that the instances accepted as right.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;

/// The clock that all instances of a database share.
#[async_trait]
pub trait Timekeeper: Send + Sync + 'static {
    /// The time at the database. Where the database is a file on this machine, it is this machine's time.
    async fn time(&self) -> PortResult<Timestamp>;

    /// The last time that an instance accepted as right; `None` in a database that no instance has used yet.
    async fn trusted_time(&self) -> PortResult<Option<Timestamp>>;

    /// Records that this time is right, whatever was recorded before.
    async fn trust_time(&self, at: Timestamp) -> PortResult<()>;
}
