//! The port `Search`: full-text search over the catalogue with FTS5.
//!
//! Results come in the order in which FTS5 reads its index, the newest first, so that for whole words it stops when the
//! page is full, however many assets a common word has. FTS5's own ranking, bm25, would have to read all of them, and
//! every new asset would change the order of pages that a client is reading.
//!
//! For a prefix, FTS5 merges the lists of all words that begin with it before the first result, and a rare combination
//! (words, filters, a price) is searched to the end. So there is a time limit: after one second, a search stops with a
//! page that is not full and a cursor to continue from, as on PostgreSQL. FTS5 does not report how far it has read, so
//! a search without results by then has no such cursor, and fails.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use penstock_actors::{
    ids::ProducerId,
    ports::{Hit, PortError, PortResult, Search, SearchFacets, SearchFilter, SearchPage, SearchPosition},
    search::MatchedField,
};
use rusqlite::{Connection, Row, named_params};

use super::{
    SqliteStore,
    assets::asset_from_row,
    columns::get_opt,
    error::{DEPENDENCY, JobFailure},
};

mod clock;
pub(crate) mod match_text;

use self::{clock::Clock, match_text::match_text};

/// How long a search may occupy a reader, which streams also need at times.
const PATIENCE: Duration = Duration::from_secs(1);

/// Served by the primary key.
pub(super) const NEWEST: &str = "SELECT coalesce(max(number), 0) FROM asset_search";

/// Served by the full-text index, which gives the newest first; then by the primary keys.
pub(super) const MATCHES: &str = "
    SELECT s.number, a.version_id, a.content_hash, a.name, a.description, a.media_type, c.size_bytes, a.dataset_id,
        a.policy_meta, a.producer_id, s.satoshis AS price_satoshis, a.created_at
    FROM asset_texts t
    JOIN asset_search s ON s.number = t.rowid
    JOIN assets a ON a.version_id = s.version_id
    JOIN overlay_storage_index c ON c.content_hash = a.content_hash
    WHERE asset_texts MATCH :match AND t.rowid < :below AND s.satoshis BETWEEN :cheapest AND :dearest
    ORDER BY t.rowid DESC
    LIMIT :limit";

/// Served by the primary keys, the newest first.
pub(super) const LISTED: &str = "
    SELECT s.number, a.version_id, a.content_hash, a.name, a.description, a.media_type, c.size_bytes, a.dataset_id,
        a.policy_meta, a.producer_id, s.satoshis AS price_satoshis, a.created_at
    FROM asset_search s
    JOIN assets a ON a.version_id = s.version_id
    JOIN overlay_storage_index c ON c.content_hash = a.content_hash
    WHERE s.number < :below AND s.satoshis BETWEEN :cheapest AND :dearest
    ORDER BY s.number DESC
    LIMIT :limit";

/// As [`MATCHES`], without the assets.
pub(super) const MATCHED_TAGS: &str = "
    SELECT s.dataset_id, s.producer_id, s.media_type
    FROM asset_texts t
    JOIN asset_search s ON s.number = t.rowid
    WHERE asset_texts MATCH :match AND t.rowid < :below AND s.satoshis BETWEEN :cheapest AND :dearest
    ORDER BY t.rowid DESC
    LIMIT :limit";

/// As [`LISTED`], without the assets.
pub(super) const LISTED_TAGS: &str = "
    SELECT s.dataset_id, s.producer_id, s.media_type
    FROM asset_search s
    WHERE s.number < :below AND s.satoshis BETWEEN :cheapest AND :dearest
    ORDER BY s.number DESC
    LIMIT :limit";

#[async_trait]
impl Search for SqliteStore {
    async fn search(
        &self,
        filter: &SearchFilter,
        behind: Option<SearchPosition>,
        limit: u32,
    ) -> PortResult<SearchPage> {
        let filter = filter.clone();
        self.workers.read("search", move |conn| search(conn, &filter, behind, limit, PATIENCE)).await
    }

    async fn facets(&self, filter: &SearchFilter, most: u32, values: u32) -> PortResult<SearchFacets> {
        let filter = filter.clone();
        self.workers.read("search_facets", move |conn| Ok(facets(conn, &filter, most, values, PATIENCE)?)).await
    }
}

fn search(
    conn: &Connection,
    filter: &SearchFilter,
    behind: Option<SearchPosition>,
    limit: u32,
    time: Duration,
) -> Result<SearchPage, JobFailure> {
    let _clock = Clock::start(conn, time)?;
    let newest = match behind {
        Some(place) => place.newest,
        None => conn.prepare_cached(NEWEST)?.query_row([], |row| row.get(0))?,
    };
    // One more, to know whether there are more.
    let wanted = limit as usize + 1;
    let mut numbered: Vec<(i64, Hit)> = Vec::new();
    let mut is_further = false;
    let mut stopped = None;
    for found in MatchedField::ALL {
        let ended = behind.is_some_and(|place| found > place.found);
        // Without words, every asset counts as found in the last place.
        let apart = filter.text.is_some() || found == MatchedField::PolicyMeta;
        if ended || !apart || numbered.len() == wanted || stopped.is_some() {
            continue;
        }
        let Some(range) = Range::of(filter, found) else { continue };
        let below = behind.filter(|place| place.found == found).map_or(newest + 1, |place| place.number);
        let hit = |row: &Row<'_>| Ok((row.get("number")?, Hit { asset: asset_from_row(row)?, found }));
        let rows = range.rows(conn, [MATCHES, LISTED], below, wanted - numbered.len(), hit)?;
        is_further |= rows.in_time || !rows.found.is_empty();
        let number = rows.found.last().map_or(below, |&(number, _)| number);
        stopped = (!rows.in_time).then_some(SearchPosition { newest, found, number });
        numbered.extend(rows.found);
    }
    if stopped.is_some() && !is_further {
        return Err(PortError::unavailable(DEPENDENCY, "a search found nothing within its time limit").into());
    }
    let more = numbered.len() == wanted;
    numbered.truncate(limit as usize);
    let last = numbered.last().filter(|_| more).map(|&(number, ref hit): &(i64, Hit)| SearchPosition {
        newest,
        found: hit.found,
        number,
    });
    Ok(SearchPage { hits: numbered.into_iter().map(|(_, hit)| hit).collect(), next: last.or(stopped) })
}

fn facets(
    conn: &Connection,
    filter: &SearchFilter,
    most: u32,
    values: u32,
    time: Duration,
) -> rusqlite::Result<SearchFacets> {
    let _clock = Clock::start(conn, time)?;
    let range = Range::anywhere(filter);
    let tags = |row: &Row<'_>| {
        let dataset: Option<String> = row.get("dataset_id")?;
        let producer: Option<ProducerId> = get_opt(row, "producer_id")?;
        Ok((dataset, producer, row.get::<_, String>("media_type")?))
    };
    let Rows { mut found, in_time } =
        range.rows(conn, [MATCHED_TAGS, LISTED_TAGS], i64::MAX, most as usize + 1, tags)?;
    let capped = !in_time || found.len() > most as usize;
    found.truncate(most as usize);
    Ok(SearchFacets {
        datasets: top(found.iter().filter_map(|(dataset, ..)| dataset.clone()), values),
        producers: top(found.iter().filter_map(|&(_, producer, _)| producer), values),
        media_types: top(found.iter().map(|(_, _, media_type)| media_type.clone()), values),
        counted: found.len() as u64,
        capped,
    })
}

/// The most frequent values, then by value.
fn top<T: Ord + std::hash::Hash>(values: impl Iterator<Item = T>, most: u32) -> Vec<(T, u64)> {
    let mut counts: HashMap<T, u64> = HashMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by(|(value, count), (other, others)| others.cmp(count).then_with(|| value.cmp(other)));
    counts.truncate(most as usize);
    counts
}

/// The range that a statement searches.
struct Range {
    /// `None` when neither words nor tags are asked for.
    matched: Option<String>,
    cheapest: i64,
    dearest: i64,
}

impl Range {
    /// Assets that match there and in no better place; `None` when there can be none.
    fn of(filter: &SearchFilter, found: MatchedField) -> Option<Self> {
        let matched = match_text(filter, Some(found));
        (matched.is_some() || filter.text.is_none()).then(|| Self::priced(filter, matched))
    }

    fn anywhere(filter: &SearchFilter) -> Self {
        Self::priced(filter, match_text(filter, None))
    }

    fn priced(filter: &SearchFilter, matched: Option<String>) -> Self {
        let amount = |satoshis: u64| i64::try_from(satoshis).unwrap_or(i64::MAX);
        Self {
            matched,
            cheapest: filter.min_price.map_or(0, amount),
            dearest: filter.max_price.map_or(i64::MAX, amount),
        }
    }

    /// The rows of the first statement, or of the second when there is nothing to match.
    fn rows<T>(
        &self,
        conn: &Connection,
        [matched, listed]: [&str; 2],
        below: i64,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Rows<T>> {
        let (cheapest, dearest, limit) = (self.cheapest, self.dearest, limit as i64);
        let mut statement = conn.prepare_cached(if self.matched.is_some() { matched } else { listed })?;
        let rows = match &self.matched {
            Some(text) => statement.query_map(
                named_params! {
                    ":match": text, ":below": below, ":cheapest": cheapest, ":dearest": dearest, ":limit": limit,
                },
                read,
            )?,
            None => statement.query_map(
                named_params! { ":below": below, ":cheapest": cheapest, ":dearest": dearest, ":limit": limit },
                read,
            )?,
        };
        let mut found = Vec::new();
        for row in rows {
            match row {
                Ok(row) => found.push(row),
                Err(error) if clock::is_over(&error) => return Ok(Rows { found, in_time: false }),
                Err(error) => return Err(error),
            }
        }
        Ok(Rows { found, in_time: true })
    }
}

/// The results of a statement, the newest first.
struct Rows<T> {
    found: Vec<T>,
    /// The end was reached, or enough rows were found.
    in_time: bool,
}

#[cfg(test)]
mod tests;
