//! Search over a list in memory: it reads every asset for every query, and defines the right answer of an index.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    model::Asset,
    ports::{Hit, Media, PortResult, Search, SearchFacets, SearchFilter, SearchPage, SearchPosition},
    search::{Alternative, MatchedField, Term, TextQuery, texts, words},
};

/// Assets in order of arrival.
#[derive(Default)]
pub struct ModelSearch {
    assets: Mutex<Vec<Asset>>,
}

impl ModelSearch {
    /// Adds an asset, or replaces the one of its version.
    pub fn put(&self, asset: Asset) {
        let mut assets = self.assets();
        match assets.iter_mut().find(|known| known.version_id == asset.version_id) {
            Some(known) => *known = asset,
            None => assets.push(asset),
        }
    }

    fn assets(&self) -> MutexGuard<'_, Vec<Asset>> {
        self.assets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All results of a query, in order, with their numbers.
    fn all(&self, filter: &SearchFilter) -> Vec<(i64, Hit)> {
        let mut hits: Vec<_> = (1..)
            .zip(self.assets().iter())
            .filter(|(_, asset)| is_wanted(filter, asset))
            .filter_map(|(number, asset)| {
                let found = match &filter.text {
                    Some(text) => found(text, asset)?,
                    None => MatchedField::PolicyMeta,
                };
                Some((number, Hit { asset: asset.clone(), found }))
            })
            .collect();
        hits.sort_by_key(|(number, hit)| std::cmp::Reverse((hit.found, *number)));
        hits
    }
}

#[async_trait]
impl Search for ModelSearch {
    async fn search(
        &self,
        filter: &SearchFilter,
        behind: Option<SearchPosition>,
        limit: u32,
    ) -> PortResult<SearchPage> {
        let newest = behind.map_or_else(|| self.assets().len() as i64, |place| place.newest);
        let is_behind = |&(number, ref hit): &(i64, Hit)| {
            number <= newest && behind.is_none_or(|place| (hit.found, number) < (place.found, place.number))
        };
        let mut hits: Vec<_> = self.all(filter).into_iter().filter(is_behind).collect();
        let more = hits.len() > limit as usize;
        hits.truncate(limit as usize);
        let place = |(number, hit): &(i64, Hit)| SearchPosition { newest, found: hit.found, number: *number };
        let next = hits.last().filter(|_| more).map(place);
        Ok(SearchPage { hits: hits.into_iter().map(|(_, hit)| hit).collect(), next })
    }

    async fn facets(&self, filter: &SearchFilter, most: u32, values: u32) -> PortResult<SearchFacets> {
        let mut all = self.all(filter);
        all.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let capped = all.len() > most as usize;
        all.truncate(most as usize);
        let assets = || all.iter().map(|(_, hit)| &hit.asset);
        Ok(SearchFacets {
            datasets: top(assets().filter_map(|asset| asset.dataset_id.clone()), values),
            producers: top(assets().map(|asset| asset.producer_id), values),
            media_types: top(assets().map(|asset| media_essence(&asset.media_type)), values),
            counted: all.len() as u64,
            capped,
        })
    }
}

fn top<T: Ord>(values: impl Iterator<Item = T>, most: u32) -> Vec<(T, u64)> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0) += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    // Stable: equal counts stay in the order of their values.
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts.truncate(most as usize);
    counts
}

/// The media type without parameters and in lower case, as the triggers of both databases store it.
fn media_essence(media_type: &str) -> String {
    media_type.split_once(';').map_or(media_type, |(essence, _)| essence).trim_matches(' ').to_ascii_lowercase()
}

fn is_wanted(filter: &SearchFilter, asset: &Asset) -> bool {
    let essence = media_essence(&asset.media_type);
    let family = essence.split('/').next().unwrap_or_default();
    let media = filter.media.as_ref().is_none_or(|media| match media {
        Media::Type(wanted) => *wanted == essence,
        Media::Family(wanted) => wanted == family,
    });
    media
        && filter.dataset_id.as_ref().is_none_or(|wanted| asset.dataset_id.as_ref() == Some(wanted))
        && filter.producer_id.is_none_or(|wanted| asset.producer_id == wanted)
        && filter.min_price.is_none_or(|least| asset.price_satoshis >= least)
        && filter.max_price.is_none_or(|most| asset.price_satoshis <= most)
}

/// Where an asset has the words of a query, if it has them.
fn found(query: &TextQuery, asset: &Asset) -> Option<MatchedField> {
    let name = words(&asset.name);
    let description = words(&asset.description);
    let facts: Vec<_> = texts(&asset.policy_meta).into_iter().map(words).collect();
    let places = |found: MatchedField| {
        let described = (found <= MatchedField::Description).then_some(&description).into_iter();
        let stated = (found <= MatchedField::PolicyMeta).then_some(&facts).into_iter().flatten();
        std::iter::once(&name).chain(described).chain(stated)
    };
    let has = |term: &Term, found: MatchedField| places(found).any(|text| stands_in(term, text));
    let fits = |one: &Alternative, found: MatchedField| {
        // A query with only excluded words has no place where words were found.
        (!one.wanted.is_empty() || found == MatchedField::PolicyMeta)
            && one.wanted.iter().all(|term| has(term, found))
            && !one.unwanted.iter().any(|term| has(term, MatchedField::PolicyMeta))
    };
    MatchedField::ALL.into_iter().find(|&found| query.alternatives().iter().any(|one| fits(one, found)))
}

fn stands_in(term: &Term, text: &[String]) -> bool {
    text.windows(term.words.len()).any(|window| {
        let last = window.len() - 1;
        window.iter().zip(&term.words).enumerate().all(|(place, (word, wanted))| {
            word == wanted || term.prefix && place == last && word.starts_with(wanted.as_str())
        })
    })
}
