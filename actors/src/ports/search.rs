//! Search over the catalogue.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::PortResult;
use crate::{
    ids::ProducerId,
    model::Asset,
    search::{MatchedField, TextQuery},
};

/// A query. All of its conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct SearchFilter {
    pub text: Option<TextQuery>,
    pub dataset_id: Option<String>,
    pub producer_id: Option<ProducerId>,
    pub media: Option<Media>,
    /// In satoshis, inclusive, as is the maximum.
    pub min_price: Option<u64>,
    pub max_price: Option<u64>,
}

/// The media types to find: without parameters, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Media {
    /// `video/mp4`
    Type(String),
    /// The `video` of `video/*`.
    Family(String),
}

/// A position in the results of a query. Assets are numbered in order of arrival, so one that is added after the first
/// page does not appear on a later one, and none is shown twice or left out. An asset that was being added while the
/// first page was read may already have a number: it may appear on a later page, and changes nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SearchPosition {
    /// The newest asset when the first page was read; newer ones are skipped.
    pub newest: i64,
    /// The last asset shown.
    pub found: MatchedField,
    pub number: i64,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub asset: Asset,
    /// Where the words of the query were found. Without words it is [`MatchedField::PolicyMeta`] for all.
    pub found: MatchedField,
}

/// A page of results: by [`MatchedField`], best first, then newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SearchPage {
    /// Fewer than requested where finding them took too long, or none, although there is a next page.
    pub hits: Vec<Hit>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<SearchPosition>,
}

/// How many results of a query have which property.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SearchFacets {
    /// The most frequent values, most frequent first, then by value.
    pub datasets: Vec<(String, u64)>,
    pub producers: Vec<(ProducerId, u64)>,
    pub media_types: Vec<(String, u64)>,
    /// Results that were counted.
    pub counted: u64,
    /// There may be more results: only the newest were counted.
    pub capped: bool,
}

/// Search over the catalogue. An asset is found from the moment at which it was made.
///
/// In texts of more than 16,000 words, or with a word that occurs more than 255 times, words are always found, but
/// phrases may be missed.
#[async_trait]
pub trait Search: Send + Sync + 'static {
    /// Up to `limit` results after a position, or from the beginning.
    async fn search(&self, filter: &SearchFilter, behind: Option<SearchPosition>, limit: u32)
    -> PortResult<SearchPage>;

    /// Counts over the newest `most` results, with at most `values` values of each kind.
    async fn facets(&self, filter: &SearchFilter, most: u32, values: u32) -> PortResult<SearchFacets>;
}
