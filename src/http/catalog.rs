//! The catalogue: search for assets by words and filters.
//!
//! Anyone may search, so the cost of a search is bounded on all sides: its length, its words, the size of a page, the
//! assets that facets count, the time for a page (the port stops by itself), the number of concurrent searches (the
//! port again), and the amount of text that is scanned for passages.

use std::{borrow::Cow, fmt::Display, str::FromStr, sync::Arc};

use actix_web::{
    HttpResponse,
    web::{Data, Query, ServiceConfig},
};
use futures::future::OptionFuture;
use penstock_actors::{
    ids::ProducerId,
    model::Asset,
    ports::{Hit, Media, Search, SearchFacets, SearchFilter},
    search::{Highlighter, Piece, TextQuery, TextQueryError, texts},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Problem, answer, paging, routing, validation::is_media_range};
use crate::http::schemas::answers;

pub(crate) mod cursor;

/// Results per page by default.
const PAGE: u32 = 20;

/// The largest page. An asset is at most about 42 KiB of JSON, and few exceed 2 KiB: a page is at most 4 MiB, and
/// usually 200 KiB.
const MAX_PAGE: u32 = 100;

/// The longest text to search for, in characters: more than a person types.
const MAX_TEXT: usize = 512;

/// Values per facet: as many as a list beside the results shows.
const FACET_VALUES: u32 = 20;

/// Limits from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct CatalogueSettings {
    /// The most assets that facets count.
    pub facet_assets: u32,
}

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub search: Arc<dyn Search>,
    pub settings: CatalogueSettings,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(routing::resource("/v1/catalog").route(routing::read().to(list)));
}

/// The query. An empty value counts as absent, because forms send it so.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CatalogQuery {
    #[serde(default)]
    /// Words to search for
    #[param(max_length = 512, example = "film")]
    q: String,
    #[serde(default)]
    /// Only this data set
    #[param(max_length = 256)]
    dataset_id: String,
    #[serde(default)]
    /// Only this producer
    #[param(pattern = "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})?$")]
    producer_id: String,
    #[serde(default)]
    /// Only this media type, or a family
    #[param(example = "video/*")]
    media_type: String,
    #[serde(default, deserialize_with = "given_value")]
    /// The least price
    #[param(format = "uint64", maximum = 18_446_744_073_709_551_615u64)]
    min_price: Option<u64>,
    #[serde(default, deserialize_with = "given_value")]
    /// The highest price
    #[param(format = "uint64", maximum = 18_446_744_073_709_551_615u64)]
    max_price: Option<u64>,
    #[serde(default, deserialize_with = "given_value")]
    /// Items per page
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    #[serde(default)]
    /// The `nextCursor` of the page before
    cursor: String,
    #[serde(default, deserialize_with = "given_value")]
    /// Whether to count values
    facets: Option<bool>,
}

impl CatalogQuery {
    fn filter(&self) -> Result<SearchFilter, Problem> {
        if self.min_price.zip(self.max_price).is_some_and(|(least, most)| least > most) {
            return Err(Problem::malformed("minPrice must not be above maxPrice"));
        }
        Ok(SearchFilter {
            text: self.text()?,
            dataset_id: self.dataset_id()?,
            producer_id: given(&self.producer_id).map(str::parse).transpose()?,
            media: self.media()?,
            min_price: self.min_price,
            max_price: self.max_price,
        })
    }

    fn text(&self) -> Result<Option<TextQuery>, Problem> {
        if self.q.chars().count() > MAX_TEXT {
            return Err(Problem::malformed(format!("q must have at most {MAX_TEXT} characters")));
        }
        match TextQuery::parse(&self.q) {
            Ok(text) => Ok(Some(text)),
            Err(TextQueryError::NoWords) if self.q.trim().is_empty() => Ok(None),
            Err(error) => Err(Problem::malformed(format!("q cannot be searched for: {error}"))),
        }
    }

    fn dataset_id(&self) -> Result<Option<String>, Problem> {
        let id = given(&self.dataset_id);
        if id.is_some_and(|id| id.chars().count() > 256 || id.chars().any(char::is_control)) {
            return Err(Problem::malformed("datasetId must have at most 256 characters and no control characters"));
        }
        Ok(id.map(str::to_owned))
    }

    fn media(&self) -> Result<Option<Media>, Problem> {
        let Some(media) = given(&self.media_type) else { return Ok(None) };
        if !is_media_range(media) {
            return Err(Problem::malformed(
                "mediaType must be a media type without parameters, or a family, such as video/*",
            ));
        }
        let media = media.to_ascii_lowercase();
        Ok(Some(match media.strip_suffix("/*") {
            Some(family) => Media::Family(family.to_owned()),
            None => Media::Type(media),
        }))
    }
}

fn given(value: &str) -> Option<&str> {
    Some(value).filter(|value| !value.is_empty())
}

/// Reads a value that is not a text.
fn given_value<'de, D, T>(asked: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = Cow::<str>::deserialize(asked)?;
    given(&text).map(str::parse).transpose().map_err(D::Error::custom)
}

#[utoipa::path(
    get,
    path = "/v1/catalog",
    operation_id = "searchCatalogue",
    tag = "Catalogue",
    summary = "Search for assets",
    description = "By words and filters, page by page. The query syntax is in docs/api.md. A parameter with an empty value counts as left out.",
    params(CatalogQuery),
    responses(
        (status = 200, description = "The assets", body = answers::CataloguePage),
    ),
)]
async fn list(deps: Data<Deps>, asked: Query<CatalogQuery>) -> Result<HttpResponse, Problem> {
    let limit = paging::limit(asked.limit, PAGE, MAX_PAGE)?;
    let filter = asked.filter()?;
    let behind = given(&asked.cursor).map(|text| cursor::read(text, &filter)).transpose()?;
    let counting: OptionFuture<_> = asked
        .facets
        .unwrap_or_default()
        .then(|| deps.search.facets(&filter, deps.settings.facet_assets, FACET_VALUES))
        .into();
    let (page, facets) = futures::join!(deps.search.search(&filter, behind, limit), counting);
    let (page, facets) = (page?, facets.transpose()?);
    let mut highlighter = filter.text.as_ref().map(Highlighter::of);
    Ok(answer::ok(&Listing {
        items: page.hits.iter().map(|hit| AssetItem::of(hit, highlighter.as_mut())).collect(),
        next_cursor: page.next.map(|place| cursor::write(place, &filter)),
        facets: facets.as_ref().map(FacetCounts::of),
    }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    items: Vec<AssetItem<'a>>,
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facets: Option<FacetCounts<'a>>,
}

/// An asset in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssetItem<'a> {
    #[serde(flatten)]
    asset: &'a Asset,
    #[serde(flatten)]
    why: Option<MatchReason>,
}

/// Why an asset was found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MatchReason {
    found_in: &'static str,
    highlights: Highlights,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Highlights {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Vec<Piece>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Vec<Piece>>,
    /// From the first text in which a word was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_meta: Option<Vec<Piece>>,
}

impl<'a> AssetItem<'a> {
    fn of(hit: &'a Hit, highlighter: Option<&mut Highlighter<'_>>) -> Self {
        let Hit { asset, found } = hit;
        let why = highlighter.map(|highlighter| MatchReason {
            found_in: found.as_str(),
            highlights: Highlights {
                name: highlighter.passage(&asset.name),
                description: highlighter.passage(&asset.description),
                policy_meta: texts(&asset.policy_meta).into_iter().find_map(|fact| highlighter.passage(fact)),
            },
        });
        Self { asset, why }
    }
}

/// Facets in the answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FacetCounts<'a> {
    dataset_id: Vec<FacetCount<&'a str>>,
    producer_id: Vec<FacetCount<ProducerId>>,
    media_type: Vec<FacetCount<&'a str>>,
    counted: u64,
    capped: bool,
}

#[derive(Serialize)]
struct FacetCount<T> {
    value: T,
    count: u64,
}

impl<'a> FacetCounts<'a> {
    fn of(facets: &'a SearchFacets) -> Self {
        let texts = |counts: &'a [(String, u64)]| {
            counts.iter().map(|(value, count)| FacetCount { value: value.as_str(), count: *count }).collect()
        };
        Self {
            dataset_id: texts(&facets.datasets),
            producer_id: facets.producers.iter().map(|&(value, count)| FacetCount { value, count }).collect(),
            media_type: texts(&facets.media_types),
            counted: facets.counted,
            capped: facets.capped,
        }
    }
}
