//! Ports that routes here need, and that no test here asks.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{KeyId, ProducerId},
    model::{Binding, IdentityKey, KeyInfo, NewKey, ProducerInfo},
    ports::{ApiKeys, BindOutcome, Identities, Page, PortError, PortResult},
};

pub(crate) struct Unused;

fn unused<T>() -> PortResult<T> {
    Err(PortError::Corrupt("no test here asks this port".to_owned()))
}

#[async_trait]
impl ApiKeys for Unused {
    async fn producers(&self, _: Option<ProducerId>, _: u32) -> PortResult<Page<ProducerInfo>> {
        unused()
    }

    async fn keys(&self, _: ProducerId, _: Option<(Timestamp, KeyId)>, _: u32) -> PortResult<Page<KeyInfo>> {
        unused()
    }

    async fn add_key(&self, _: &NewKey) -> PortResult<()> {
        unused()
    }

    async fn rotate_key(&self, _: KeyId, _: ProducerId, _: &[u8; 32]) -> PortResult<Option<KeyInfo>> {
        unused()
    }

    async fn revoke_key(&self, _: KeyId, _: ProducerId, _: Timestamp) -> PortResult<bool> {
        unused()
    }
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
