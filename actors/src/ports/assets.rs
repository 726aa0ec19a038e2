//! Assets with their prices.
//!
//! **Callers:** the routes of assets, receipts, usage and governance, all through the cache. **Errors:** after an error, an
//! asset or a price may have been written all the same; `create_asset` may be repeated with the same id. **Bound:** one
//! asset a call.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{PortError, PortResult};
use crate::{
    ids::{ProducerId, VersionId},
    model::{Asset, NewAsset},
};

/// Why an asset was not made.
#[derive(Debug, thiserror::Error)]
pub enum NewAssetError {
    #[error("the content is not stored")]
    ContentNotStored,
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Published versions, by their id.
#[async_trait]
pub trait Assets: Send + Sync + 'static {
    /// Makes an asset with its price. Without a media type it gets that of
    /// [`content_of`](super::ContentIndex::content_of) for its producer.
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
