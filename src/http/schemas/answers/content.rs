//! Content, uploads, assets, the catalogue and stored copies.

use utoipa::ToSchema;

use super::{
    super::scalars::{Cursor, Hash, Id, Moment, Object},
    Reason,
};

/// A content that was uploaded.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UploadedContent {
    pub content_hash: Hash,
    #[schema(example = 2_750_836)]
    pub size_bytes: u64,
    #[schema(example = "video/mp4")]
    pub media_type: String,
    /// Whether this producer uploaded these bytes for the first time.
    pub created: bool,
}

/// The state of a resumable upload.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UploadState {
    pub upload_id: Id,
    #[schema(example = 1_048_576)]
    pub offset: u64,
    #[schema(example = 2_750_836)]
    pub length: u64,
    pub is_complete: bool,
    /// `null` before the upload is complete.
    pub content_hash: Option<Hash>,
    pub expires_at: Moment,
}

/// Where another server delivers a content.
#[derive(ToSchema)]
pub struct Delivery {
    pub delivery: DeliveryRequest,
    pub metadata: DeliveredContent,
}

/// The request with which the client gets the content.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DeliveryRequest {
    #[schema(example = "GET")]
    pub method: String,
    #[schema(example = "https://cdn.example.com/content/c6/d5/c6d5931c?expires=1795505222&signature=f452e0d2")]
    pub url: String,
    pub expires_at: Moment,
    /// Header fields that the request must carry.
    #[schema(value_type = Object)]
    pub headers: Object,
}

/// The properties of a content that another server delivers.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DeliveredContent {
    pub content_hash: Hash,
    pub size_bytes: u64,
    #[schema(example = "video/mp4")]
    pub media_type: String,
    #[schema(example = "A film")]
    pub name: String,
    #[schema(example = "sha-256=:xtWTHA94dSlIOEdAtTNYuOPJlwpTbBi2vQpEKw9WSV0=:")]
    pub repr_digest: String,
    pub receipt_id: Id,
    pub session_id: Id,
    #[schema(example = "premium")]
    pub quota_tier: String,
    pub charged_bytes: u64,
    /// Absent where the tier has no limit.
    pub remaining_bytes: Option<u64>,
}

/// A catalogue entry that names one content.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Asset {
    pub version_id: Id,
    pub content_hash: Hash,
    #[schema(example = "film.mp4")]
    pub name: String,
    pub description: String,
    #[schema(example = "video/mp4")]
    pub media_type: String,
    #[schema(example = 2_750_836)]
    pub size_bytes: u64,
    pub dataset_id: Option<String>,
    pub policy_meta: Object,
    pub producer_id: Id,
    /// The price of one receipt.
    #[schema(example = 1000)]
    pub price_satoshis: u64,
    pub created_at: Moment,
    /// Warnings of the node's policy, only in the answer that publishes the asset.
    pub warnings: Option<Vec<Reason>>,
}

/// The price of an asset.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Price {
    pub version_id: Id,
    #[schema(example = 1000)]
    pub price_satoshis: u64,
}

/// A page of the catalogue.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CataloguePage {
    pub items: Vec<CatalogueItem>,
    /// `null` on the last page.
    pub next_cursor: Option<Cursor>,
    /// Only where `facets=true` asks for them.
    pub facets: Option<CatalogueFacets>,
}

/// An asset that was found.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CatalogueItem {
    pub version_id: Id,
    pub content_hash: Hash,
    #[schema(example = "film.mp4")]
    pub name: String,
    pub description: String,
    #[schema(example = "video/mp4")]
    pub media_type: String,
    pub size_bytes: u64,
    pub dataset_id: Option<String>,
    pub policy_meta: Object,
    pub producer_id: Id,
    pub price_satoshis: u64,
    pub created_at: Moment,
    /// Where the words were found; absent in a search without words.
    #[schema(example = "name")]
    pub found_in: Option<String>,
    pub highlights: Option<Highlights>,
}

/// The passages in which words were found.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Highlights {
    pub name: Option<Vec<Piece>>,
    pub description: Option<Vec<Piece>>,
    pub policy_meta: Option<Vec<Piece>>,
}

/// A part of a passage.
#[derive(ToSchema)]
pub struct Piece {
    #[schema(example = "film")]
    pub text: String,
    /// Whether this is a hit; absent where it is none.
    pub hit: Option<bool>,
}

/// How many assets have each value.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CatalogueFacets {
    pub dataset_id: Vec<FacetCount>,
    pub producer_id: Vec<FacetCount>,
    pub media_type: Vec<FacetCount>,
    pub counted: u64,
    /// Whether there are more assets than were counted.
    pub capped: bool,
}

/// A value, and how many assets have it.
#[derive(ToSchema)]
pub struct FacetCount {
    #[schema(example = "video/mp4")]
    pub value: String,
    #[schema(example = 12)]
    pub count: u64,
}

/// The state of a content after a verification.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Verified {
    pub content_hash: Hash,
    pub size_bytes: u64,
    #[schema(example = "hot")]
    pub tier: String,
    /// `intact`, `repaired` or `damaged`.
    #[schema(example = "intact")]
    pub status: String,
    pub quarantined: bool,
    pub copies: Vec<VerifiedCopy>,
    /// The tiers whose copy was written again.
    pub repaired: Vec<String>,
    /// The tiers whose surplus copy was removed.
    pub removed: Vec<String>,
}

/// What was found of one copy.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct VerifiedCopy {
    #[schema(example = "hot")]
    pub tier: String,
    /// `intact`, `corrupt`, `wrong_size` or `missing`.
    #[schema(example = "intact")]
    pub finding: String,
    pub found_bytes: Option<u64>,
}

/// Verifications, newest first.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct VerificationPage {
    pub items: Vec<Verification>,
    pub next_cursor: Option<Cursor>,
}

/// A verification of one copy.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Verification {
    pub verification_id: Id,
    pub content_hash: Hash,
    #[schema(example = "on_demand")]
    pub r#type: String,
    #[schema(example = "hot")]
    pub tier: String,
    #[schema(example = "intact")]
    pub finding: String,
    pub expected_bytes: u64,
    pub found_bytes: Option<u64>,
    pub node_id: Id,
    pub verified_at: Moment,
}

/// A content that was moved.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Moved {
    pub content_hash: Hash,
    #[schema(example = "cold")]
    pub tier: String,
    #[schema(example = "moved")]
    pub status: String,
}

/// Work that was accepted and continues.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UnderWay {
    pub content_hash: Hash,
    #[schema(example = "copying")]
    pub status: String,
}

/// Contents that are withheld.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct QuarantinePage {
    pub items: Vec<QuarantinedContent>,
    pub next_cursor: Option<Cursor>,
}

/// A content that is withheld.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct QuarantinedContent {
    pub content_hash: Hash,
    pub since: Moment,
}
