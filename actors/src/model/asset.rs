//! Assets: catalogue entries that name one content each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, ProducerId, VersionId};

/// A catalogue entry with its current price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asset {
    pub version_id: VersionId,
    pub content_hash: ContentHash,
    pub name: String,
    pub description: String,
    pub media_type: String,
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_id: Option<String>,
    /// Free-form metadata that policies judge; always an object.
    pub policy_meta: serde_json::Value,
    pub producer_id: ProducerId,
    /// The price of one receipt, in satoshis.
    pub price_satoshis: u64,
    pub created_at: Timestamp,
}

/// A producer's request to make an asset. Without a media type, that of the content is used.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAsset {
    pub version_id: VersionId,
    pub content_hash: ContentHash,
    pub name: String,
    pub description: String,
    pub media_type: Option<String>,
    pub dataset_id: Option<String>,
    pub policy_meta: serde_json::Value,
    pub producer_id: ProducerId,
    pub price_satoshis: u64,
    pub created_at: Timestamp,
}
