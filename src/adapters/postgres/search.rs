//! The port `Search`: full-text search over the catalogue. Migrations V10 and V18, which implement it, explain how it
//! works.
//!
//! A call is one round trip to a function. It reads spans of the catalogue that grow, the newest first, and stops when
//! the page is full: however many assets a common word has, it reads few of them. It also stops after one second, with
//! a page that is not full and a cursor to continue from. A replica may answer.

use async_trait::async_trait;
use penstock_actors::{
    ids::ProducerId,
    ports::{Hit, Media, PortResult, Search, SearchFacets, SearchFilter, SearchPage, SearchPosition},
    search::{MatchedField, TextQuery},
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    PostgresStore,
    assets::asset,
    columns::{Columns, out_of_range, signed},
    db::{Param, Statement},
};

pub(crate) mod tsquery;

use self::tsquery::{SearchScope, tsquery};

/// By `asset_search_document` with words or filters, else by the primary key or `asset_search_price`; then by the
/// primary keys and `asset_search_version_id_key`. The price in the result is the one that filters compare.
const SEARCH: Statement = Statement {
    name: "search",
    sql: "
        SELECT m.newest, m.rank, m.number, m.version_id, a.content_hash, a.name, a.description, a.media_type,
            c.size_bytes, a.dataset_id, a.policy_meta, a.producer_id, s.satoshis, a.created_at
        FROM penstock_search($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) m
        LEFT JOIN assets a ON a.version_id = m.version_id
        LEFT JOIN overlay_storage_index c ON c.content_hash = a.content_hash
        LEFT JOIN asset_search s ON s.version_id = m.version_id
        ORDER BY m.rank DESC, m.number DESC, m.version_id NULLS LAST",
    types: &[
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT2,
        Type::INT8,
        Type::INT8,
    ],
};

/// As [`SEARCH`], without the assets.
const SEARCH_FACETS: Statement = Statement {
    name: "search_facets",
    sql: "SELECT kind, value, assets FROM penstock_facets($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    types: &[
        Type::TEXT,
        Type::TEXT,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
    ],
};

/// A search request as the functions take it.
struct SearchParameters<'a> {
    in_name: Option<String>,
    in_description: Option<String>,
    anywhere: Option<String>,
    beginning: Option<&'a str>,
    producer: Option<Uuid>,
    dataset: Option<&'a str>,
    media: Option<&'a str>,
    family: Option<&'a str>,
    cheapest: i64,
    dearest: i64,
}

impl<'a> SearchParameters<'a> {
    fn of(filter: &'a SearchFilter) -> Self {
        let text = |place| filter.text.as_ref().and_then(|text| tsquery(text, place));
        let (media, family) = match &filter.media {
            None => (None, None),
            Some(Media::Type(essence)) => (Some(essence.as_str()), None),
            Some(Media::Family(family)) => (None, Some(family.as_str())),
        };
        Self {
            in_name: text(SearchScope::Name),
            in_description: text(SearchScope::NameOrDescription),
            anywhere: text(SearchScope::Anywhere),
            beginning: filter.text.as_ref().and_then(TextQuery::prefix),
            producer: filter.producer_id.map(|id| id.as_uuid()),
            dataset: filter.dataset_id.as_deref(),
            media,
            family,
            cheapest: filter.min_price.map_or(0, signed),
            dearest: filter.max_price.map_or(i64::MAX, signed),
        }
    }
}

#[async_trait]
impl Search for PostgresStore {
    async fn search(
        &self,
        filter: &SearchFilter,
        behind: Option<SearchPosition>,
        limit: u32,
    ) -> PortResult<SearchPage> {
        let asked = SearchParameters::of(filter);
        let newest = behind.map(|place| place.newest);
        let rank = behind.map(|place| i16::from(place.found.rank()));
        let number = behind.map(|place| place.number);
        // One more, to know whether there are more.
        let wanted = i64::from(limit) + 1;
        let params: [Param<'_>; 14] = [
            &asked.in_name,
            &asked.in_description,
            &asked.anywhere,
            &asked.beginning,
            &asked.producer,
            &asked.dataset,
            &asked.media,
            &asked.family,
            &asked.cheapest,
            &asked.dearest,
            &newest,
            &rank,
            &number,
            &wanted,
        ];
        let rows = self.replicas.search_rows(&SEARCH, &params).await?;
        let stopped =
            rows.last().filter(|row| row.try_get::<_, Option<Uuid>>("version_id").is_ok_and(|id| id.is_none()));
        let hits = &rows[..rows.len() - usize::from(stopped.is_some())];
        let shown = &hits[..hits.len().min(limit as usize)];
        let last = if hits.len() > shown.len() { shown.last() } else { stopped };
        let hit = |row| Ok(Hit { asset: asset(&Columns(row))?, found: found(row)? });
        Ok(SearchPage { hits: shown.iter().map(hit).collect::<PortResult<_>>()?, next: last.map(place).transpose()? })
    }

    async fn facets(&self, filter: &SearchFilter, most: u32, values: u32) -> PortResult<SearchFacets> {
        let asked = SearchParameters::of(filter);
        let params: [Param<'_>; 10] = [
            &asked.anywhere,
            &asked.beginning,
            &asked.producer,
            &asked.dataset,
            &asked.media,
            &asked.family,
            &asked.cheapest,
            &asked.dearest,
            &i64::from(most),
            &i64::from(values),
        ];
        let mut facets = SearchFacets::default();
        for row in self.replicas.search_rows(&SEARCH_FACETS, &params).await? {
            let row = Columns(&row);
            let count = row.amount("assets")?;
            match row.get("kind")? {
                "dataset" => facets.datasets.push((row.get("value")?, count)),
                "producer" => {
                    let id = row.get::<&str>("value")?.parse::<ProducerId>().map_err(|_| out_of_range("value"))?;
                    facets.producers.push((id, count));
                }
                "media_type" => facets.media_types.push((row.get("value")?, count)),
                "counted" => facets.counted = count,
                "more" => facets.capped = count > 0,
                _ => return Err(out_of_range("kind")),
            }
        }
        Ok(facets)
    }
}

fn found(row: &Row) -> PortResult<MatchedField> {
    let rank = Columns(row).get::<i16>("rank")?;
    u8::try_from(rank).ok().and_then(MatchedField::of_rank).ok_or_else(|| out_of_range("rank"))
}

fn place(row: &Row) -> PortResult<SearchPosition> {
    let columns = Columns(row);
    Ok(SearchPosition { newest: columns.get("newest")?, found: found(row)?, number: columns.get("number")? })
}
