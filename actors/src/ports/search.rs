//! Search over the catalogue.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::PortResult;
use crate::{
    ids::ProducerId,
    model::Asset,
    search::{Found, TextQuery},
};

/// What is looked for. Everything that is said must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Wish {
    pub text: Option<TextQuery>,
    pub dataset_id: Option<String>,
    pub producer_id: Option<ProducerId>,
    pub media: Option<Media>,
    /// In satoshis, both ends included.
    pub min_price: Option<u64>,
    pub max_price: Option<u64>,
}

/// Which media types: without parameters, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Media {
    /// `video/mp4`
    Type(String),
    /// The `video` of `video/*`.
    Family(String),
}

/// A place in the results of a wish. Places are numbered as assets came in, so what is added later than the first page does not
/// appear on a later one, and nothing is shown twice or left out. An asset that was being added while the first page was read may
/// have been numbered already: it may appear on a later page, and changes nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SearchPlace {
    /// The newest asset when the first page was read; newer ones are passed over.
    pub newest: i64,
    /// The last asset that was shown.
    pub found: Found,
    pub number: i64,
}

/// An asset that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub asset: Asset,
    /// Where the words of the wish were found. Without words it is [`Found::PolicyMeta`] for all.
    pub found: Found,
}

/// A page of results: by [`Found`], the best first, then the newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SearchPage {
    /// Fewer than were asked for where finding them took too long, or none, although there is a next page.
    pub hits: Vec<Hit>,
    /// Where the next page goes on; `None` on the last.
    pub next: Option<SearchPlace>,
}

/// How many of the assets that a wish finds have which property.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facets {
    /// The most frequent values, the most frequent first, then by value.
    pub datasets: Vec<(String, u64)>,
    pub producers: Vec<(ProducerId, u64)>,
    pub media_types: Vec<(String, u64)>,
    /// Assets that were counted.
    pub counted: u64,
    /// There may be more: only the newest were counted.
    pub capped: bool,
}

/// Search over the catalogue. An asset is found from the moment at which it was made.
///
/// Of texts of more than 16,000 words, or in which a word stands more than 255 times, words are always found, phrases perhaps.
#[async_trait]
pub trait Search: Send + Sync + 'static {
    /// Up to `limit` results behind a place, or from the beginning.
    async fn search(&self, wish: &Wish, behind: Option<SearchPlace>, limit: u32) -> PortResult<SearchPage>;

    /// Counts over the newest `most` results, with at most `values` values of each kind.
    async fn facets(&self, wish: &Wish, most: u32, values: u32) -> PortResult<Facets>;
}
