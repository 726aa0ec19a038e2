//! Identity keys, and the producers that they authenticate.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::{
    ids::ProducerId,
    model::{Binding, IdentityKey},
};

/// The most identity keys of one producer in a list: more than any producer has machines.
pub const IDENTITIES: usize = 1000;

/// The outcome of binding a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindOutcome {
    New(Binding),
    /// It was already bound to this producer.
    Already(Binding),
    /// It is bound to another producer.
    Taken,
}

/// Identity keys by producer. A key is bound to one producer; a producer may have several keys.
#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// The producer that a key is bound to.
    async fn identity(&self, key: IdentityKey) -> PortResult<Option<ProducerId>>;

    /// Binds a key to a producer; `NotFound` when the producer does not exist.
    async fn bind_identity(&self, key: IdentityKey, producer: ProducerId, now: Timestamp) -> PortResult<BindOutcome>;

    /// Unbinds a key; false when it was not bound to this producer.
    async fn unbind_identity(&self, key: IdentityKey, producer: ProducerId) -> PortResult<bool>;

    /// The keys bound to a producer, oldest first, up to [`IDENTITIES`] of them.
    async fn identities(&self, producer: ProducerId) -> PortResult<Vec<Binding>>;
}
