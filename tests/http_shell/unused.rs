//! Ports that routes here need, and that no test here asks.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ProducerId,
    model::{Binding, IdentityKey},
    ports::{BindOutcome, ConsoleSession, ConsoleSessions, Identities, NewConsoleSession, PortError, PortResult},
};

pub(crate) struct Unused;

fn unused<T>() -> PortResult<T> {
    Err(PortError::Corrupt("no test here asks this port".to_owned()))
}

#[async_trait]
impl Identities for Unused {
    async fn identity(&self, _: IdentityKey) -> PortResult<Option<ProducerId>> {
        unused()
    }

    async fn bind_identity(&self, _: IdentityKey, _: ProducerId, _: Timestamp) -> PortResult<BindOutcome> {
        unused()
    }

    async fn unbind_identity(&self, _: IdentityKey, _: ProducerId) -> PortResult<bool> {
        unused()
    }

    async fn identities(&self, _: ProducerId) -> PortResult<Vec<Binding>> {
        unused()
    }
}

#[async_trait]
impl ConsoleSessions for Unused {
    async fn begin_console_session(&self, _: &NewConsoleSession) -> PortResult<ConsoleSession> {
        unused()
    }

    async fn console_session(&self, _: &[u8; 32]) -> PortResult<Option<ConsoleSession>> {
        unused()
    }

    async fn end_console_session(&self, _: &[u8; 32]) -> PortResult<bool> {
        unused()
    }
}
