//! Ports that routes here need, and that no test here asks.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ProducerId,
    model::{Binding, IdentityKey},
    ports::{BindOutcome, Identities, PortError, PortResult},
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
