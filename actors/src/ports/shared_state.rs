//! State that all instances share and that is not money, as one service: on Redis, or in the process.
//!
//! One adapter keeps all of it, and can be reached or not as a whole. The start of a server holds it so and gives each caller
//! only the port that the caller uses; the health check asks whether it can be reached.

use async_trait::async_trait;

use super::{InvalidationBus, PortResult, ReplayGuard, SessionStore, StreamSlots};

/// The service that keeps the state shared by all instances.
#[async_trait]
pub trait SharedState: StreamSlots + SessionStore + ReplayGuard + InvalidationBus {
    /// Succeeds when the state can be reached.
    async fn ping(&self) -> PortResult<()>;
}
