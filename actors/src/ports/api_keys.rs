//! The keys of producers and administrators, as an administrator sees and ends them. What a call's key is looked up by is the
//! [`Catalog`](super::Catalog)'s.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, PortResult};
use crate::{
    ids::{KeyId, ProducerId},
    model::{KeyInfo, NewKey, ProducerInfo},
};

/// Keys by producer. Each change of a key that is there stands in the log of changes, as [`Tag::Key`](super::Tag::Key).
#[async_trait]
pub trait ApiKeys: Send + Sync + 'static {
    /// Producers in the order of their ids, which is that in which they were made.
    async fn producers(&self, after: Option<ProducerId>, limit: u32) -> PortResult<Page<ProducerInfo>>;

    /// The keys of a producer, the oldest first, those that were revoked among them.
    async fn keys(
        &self,
        producer: ProducerId,
        after: Option<(Timestamp, KeyId)>,
        limit: u32,
    ) -> PortResult<Page<KeyInfo>>;

    /// Makes a key; `NotFound` when there is no such producer.
    async fn add_key(&self, new: &NewKey) -> PortResult<()>;

    /// Gives a key another secret: the old one opens nothing from then on. `None` when the producer has no such key, or it was
    /// revoked.
    async fn rotate_key(&self, id: KeyId, producer: ProducerId, secret_hash: &[u8; 32]) -> PortResult<Option<KeyInfo>>;

    /// Ends a key for good; false when the producer has no such key. One that was revoked before stays as it is.
    async fn revoke_key(&self, id: KeyId, producer: ProducerId, now: Timestamp) -> PortResult<bool>;
}
