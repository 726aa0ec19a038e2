//! Producers and API keys.
//!
//! **Callers:** `KeyRing` looks up the key of each request that its cache lacks, and notes the use of keys; the start enrols
//! the admin's key; the routes of producers and keys list, make, rotate and revoke. **Errors:** without an answer no key is valid. **Bound:**
//! lists have pages.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, PortResult};
use crate::{
    ids::{KeyId, ProducerId},
    model::{ApiKey, KeyInfo, NewKey, NewProducer, ProducerInfo},
};

/// Keys by producer. Each change of an existing key is in the log of changes, as [`Tag::Key`](super::Tag::Key).
#[async_trait]
pub trait ApiKeys: Send + Sync + 'static {
    /// Makes a producer with its first key. An existing producer or key with the same id stays as it is.
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()>;

    /// The key with this hash of its secret, or of its previous secret within the overlap of a rotation. Revoked keys are
    /// not found.
    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>>;

    /// Replaces the secret of a key, keeping its id, and ends its previous one; false when there is no such key.
    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool>;

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

    /// Replaces the secret of a key: the old one stays valid for the overlap, by the database's clock. An older one, of
    /// which the overlap has not ended, is refused from then on. `None` when the producer has no such key, or it was
    /// revoked.
    async fn rotate_key(
        &self,
        id: KeyId,
        producer: ProducerId,
        secret_hash: &[u8; 32],
        overlap: Duration,
    ) -> PortResult<Option<KeyInfo>>;

    /// Notes that a key is used now, by the database's clock. This is no change of the key.
    async fn note_key_use(&self, id: KeyId) -> PortResult<()>;

    /// Revokes a key for good, with both of its secrets; false when the producer has no such key. An already revoked key stays as it is.
    async fn revoke_key(&self, id: KeyId, producer: ProducerId, now: Timestamp) -> PortResult<bool>;
}
