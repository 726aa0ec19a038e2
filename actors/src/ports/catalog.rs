//! The catalogue: producers and keys, the storage index, assets and prices.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{PortError, PortResult};
use crate::{
    ids::{ContentHash, KeyId, ProducerId, VersionId},
    model::{ApiKey, Asset, ContentMeta, NewAsset, NewProducer},
};

/// Why an asset was not made.
#[derive(Debug, thiserror::Error)]
pub enum NewAssetError {
    #[error("the content is not stored")]
    ContentNotStored,
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The catalogue.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Makes a producer with its first key. A producer or key of the same id is left as it is.
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()>;

    /// The key with this hash of its secret. Revoked keys are not found.
    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>>;

    /// Replaces the secret of a key, keeping its id; false when there is no such key.
    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool>;

    /// What the index knows of a stored content; `None` also while its upload has not been completed. The media type is what
    /// was said by the producer who stored it.
    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>>;

    /// The same, with the media type that this producer said last when it uploaded these bytes, whoever else has them.
    async fn content_of(&self, hash: ContentHash, producer: ProducerId) -> PortResult<Option<ContentMeta>>;

    /// Announces content before its blob becomes visible, so that a sweep leaves the blob alone. Of content that is
    /// stored already only what this producer says that it is changes. Refreshes the age of an announcement that is there.
    async fn announce_content(&self, meta: &ContentMeta, by: ProducerId) -> PortResult<()>;

    /// Marks announced content as stored. True when this call did it, false when it was stored before.
    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool>;

    /// Of these hashes, those that the index does not know at all, announced or stored.
    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>>;

    /// Withdraws up to `limit` announcements older than `before` that were never completed; how many.
    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Makes an asset with its price. Without a media type it has that of [`Self::content_of`] its producer.
    async fn create_asset(&self, new: &NewAsset) -> Result<Asset, NewAssetError>;

    /// An asset with its price, in one query.
    async fn asset(&self, id: VersionId) -> PortResult<Option<Asset>>;

    /// Sets the price; false when there is no such asset of this producer. `producer` is `None` for an admin, who may
    /// price any asset.
    async fn set_price(
        &self,
        id: VersionId,
        satoshis: u64,
        producer: Option<ProducerId>,
        now: Timestamp,
    ) -> PortResult<bool>;
}
