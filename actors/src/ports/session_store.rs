//! Sessions: the progress of a client over several streams of one receipt.
//!
//! **Callers:** the routes of sessions make and show them; the quota shards add each finished stream. **Errors:** progress that
//! cannot be added is lost, and the stream is not affected. **Bound:** a time to live; an adapter that keeps sessions in the
//! process also bounds their number, and drops those first that were not used for the longest time.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::SessionId,
    model::{Session, SessionProgress},
};

/// Sessions by their id.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Keeps a session for `ttl` after its last use.
    async fn put_session(&self, session: &Session, ttl: Duration) -> PortResult<()>;

    async fn session(&self, id: SessionId) -> PortResult<Option<Session>>;

    /// Adds a finished stream to a session and keeps it for another `ttl`; returns the totals, or `None` when it has expired.
    async fn add_progress(
        &self,
        id: SessionId,
        bytes: u64,
        position: u64,
        at: Timestamp,
        ttl: Duration,
    ) -> PortResult<Option<SessionProgress>>;
}
