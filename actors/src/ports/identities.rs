//! Whom identity keys speak for.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::ProducerId,
    model::{Binding, IdentityKey},
};

/// Identity keys of one producer that are listed, which is more than anybody has machines.
pub const IDENTITIES: usize = 1000;

/// What became of a wish to bind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    New(Binding),
    /// It spoke for this producer already.
    Already(Binding),
    /// It speaks for another one.
    Taken,
}

/// Identity keys by producer. A key speaks for one producer, which may have several.
#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// Whom a key speaks for.
    async fn identity(&self, key: IdentityKey) -> PortResult<Option<ProducerId>>;

    /// Lets a key speak for a producer; `NotFound` when there is no such producer.
    async fn bind_identity(&self, key: IdentityKey, producer: ProducerId, now: Timestamp) -> PortResult<Bound>;

    /// Takes that right away; false when the key had it not.
    async fn unbind_identity(&self, key: IdentityKey, producer: ProducerId) -> PortResult<bool>;

    /// The keys that speak for a producer, the oldest first, up to [`IDENTITIES`] of them.
    async fn identities(&self, producer: ProducerId) -> PortResult<Vec<Binding>>;
}
