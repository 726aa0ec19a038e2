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
    /// Makes a producer with its first key. An existing producer or key with the same id stays as it is.
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()>;

    /// The key with this hash of its secret. Revoked keys are not found.
    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>>;

    /// Replaces the secret of a key, keeping its id; false when there is no such key.
    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool>;

    /// The index entry of a stored content; `None` also while its upload is incomplete. The media type is the one that
    /// was given by the producer that stored it.
    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>>;

    /// The same, with the media type that this producer gave at its last upload of these bytes, whichever other
    /// producers have them.
    async fn content_of(&self, hash: ContentHash, producer: ProducerId) -> PortResult<Option<ContentMeta>>;

    /// Announces content before its blob becomes visible, so that a sweep leaves the blob alone. For content that is
    /// already stored, only the media type of this producer changes. Refreshes the age of an existing announcement.
    async fn announce_content(&self, meta: &ContentMeta, by: ProducerId) -> PortResult<()>;

    /// Marks announced content as stored. True when this call did it, false when it already was.
    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool>;

    /// Those of these hashes that the index does not have, neither announced nor stored.
    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>>;

    /// Withdraws up to `limit` announcements older than `before` that were never completed; returns how many.
    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Makes an asset with its price. Without a media type it gets that of [`Self::content_of`] for its producer.
    async fn create_asset(&self, new: &NewAsset) -> Result<Asset, NewAssetError>;

    /// An asset with its price, in one query.
    async fn asset(&self, id: VersionId) -> PortResult<Option<Asset>>;

    /// Sets the price; false when this producer has no such asset. `producer` is `None` for an admin, who may set the
    /// price of any asset.
    async fn set_price(
        &self,
        id: VersionId,
        satoshis: u64,
        producer: Option<ProducerId>,
        now: Timestamp,
    ) -> PortResult<bool>;
}
