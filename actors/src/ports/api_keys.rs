//! The keys of producers and administrators, as an administrator lists and revokes them. The look-up of a request's key
//! is the [`Catalog`](super::Catalog)'s.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, PortResult};
use crate::{
    ids::{KeyId, ProducerId},
    model::{KeyInfo, NewKey, ProducerInfo},
};

/// Keys by producer. Each change of an existing key is in the log of changes, as [`Tag::Key`](super::Tag::Key).
#[async_trait]
pub trait ApiKeys: Send + Sync + 'static {
    /// Producers in the order of their ids, which is that of their creation.
    async fn producers(&self, after: Option<ProducerId>, limit: u32) -> PortResult<Page<ProducerInfo>>;

    /// The keys of a producer, oldest first, including revoked ones.
    async fn keys(
        &self,
        producer: ProducerId,
        after: Option<(Timestamp, KeyId)>,
        limit: u32,
    ) -> PortResult<Page<KeyInfo>>;

    /// Makes a key; `NotFound` when there is no such producer.
    async fn add_key(&self, new: &NewKey) -> PortResult<()>;

    /// Replaces the secret of a key: the old one is refused from then on. `None` when the producer has no such key, or
    /// it was revoked.
    async fn rotate_key(&self, id: KeyId, producer: ProducerId, secret_hash: &[u8; 32]) -> PortResult<Option<KeyInfo>>;

    /// Revokes a key for good; false when the producer has no such key. An already revoked key stays as it is.
    async fn revoke_key(&self, id: KeyId, producer: ProducerId, now: Timestamp) -> PortResult<bool>;
}
