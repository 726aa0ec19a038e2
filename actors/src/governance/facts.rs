//! The facts that a policy is judged by.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    ids::{ContentHash, ProducerId, VersionId},
    model::Asset,
};

/// How far the origin of a content is known: edges in the graph of lineage, from the content up to its farthest source,
/// no farther than the policy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ancestry {
    pub depth: u32,
    /// The walk was cut short by its bounds: there may be more.
    pub cut: bool,
}

/// An asset as far as policies look at it. The asset may not exist yet.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub version_id: VersionId,
    pub content_hash: ContentHash,
    /// Always an object.
    pub policy_meta: &'a Value,
    pub producer_id: ProducerId,
    /// The declared media type, with which its bytes are served.
    pub media_type: &'a str,
    pub size_bytes: u64,
    pub created_at: Timestamp,
    /// `None`: not looked up, since the policy does not ask.
    pub ancestry: Option<Ancestry>,
}

impl<'a> From<&'a Asset> for Facts<'a> {
    fn from(asset: &'a Asset) -> Self {
        Self {
            version_id: asset.version_id,
            content_hash: asset.content_hash,
            policy_meta: &asset.policy_meta,
            producer_id: asset.producer_id,
            media_type: &asset.media_type,
            size_bytes: asset.size_bytes,
            created_at: asset.created_at,
            ancestry: None,
        }
    }
}
