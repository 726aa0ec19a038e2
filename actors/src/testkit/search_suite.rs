//! The conformance suite of [`Search`]: the promises of every adapter, whatever its database.
//!
//! Each promise uses a dataset or words of its own, so the suite may share a database with other tests, and run again
//! on the same one. Results are compared with [`ModelSearch`], which reads every asset.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::catalog_suite::CatalogStore;
use super::model_search::ModelSearch;
use crate::{
    clock::to_micros,
    ids::{ContentHash, KeyId, ProducerId, VersionId},
    model::{ApiKey, Asset, ContentMeta, NewAsset, NewProducer, Role},
    ports::{Hit, Search, SearchFilter, SearchPage, SearchPosition},
    search::{MatchedField, TextQuery},
};

mod facets;
mod filters;
mod pages;
mod text;
mod walk;

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: CatalogStore + Search>(store: Arc<S>) {
    text::run(&*store).await;
    filters::run(&*store).await;
    pages::run(&*store).await;
    facets::run(&*store).await;
    for seed in walk::SEEDS {
        walk::what_is_found_is_what_the_model_finds(&*store, seed).await;
    }
}

/// A word that occurs nowhere else.
fn own_word() -> String {
    format!("q{}", uuid::Uuid::new_v4().simple())
}

/// A dataset of a promise's own in the catalogue, and the same assets in a model.
struct Shelf<'a, S> {
    store: &'a S,
    model: ModelSearch,
    dataset: String,
    producer: ProducerId,
    content: ContentHash,
}

impl<'a, S: CatalogStore + Search> Shelf<'a, S> {
    async fn new(store: &'a S) -> Self {
        let mut secret_hash = [0; 32];
        secret_hash[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let content_hash = ContentHash::from_bytes(secret_hash);
        let producer = ProducerId::next();
        let key =
            ApiKey { key_id: KeyId::next(), producer_id: producer, role: Role::Producer, secret_hash, ends_in: None };
        let now = to_micros(Timestamp::now());
        store.create_producer(&NewProducer { name: "Shelf".into(), key, created_at: now }).await.expect("a producer");
        let content = ContentMeta { content_hash, size_bytes: 1, media_type: "text/plain".into(), stored_at: now };
        store.announce_content(&content, producer).await.expect("announced");
        assert!(store.complete_content(content_hash).await.expect("stored"));
        Self { store, model: ModelSearch::default(), dataset: own_word(), producer, content: content_hash }
    }

    fn blank(&self) -> NewAsset {
        NewAsset {
            version_id: VersionId::next(),
            content_hash: self.content,
            name: "Untitled".into(),
            description: String::new(),
            media_type: None,
            dataset_id: Some(self.dataset.clone()),
            policy_meta: json!({}),
            producer_id: self.producer,
            price_satoshis: 0,
            created_at: to_micros(Timestamp::now()),
        }
    }

    async fn put(&self, new: NewAsset) -> Asset {
        let asset = self.store.create_asset(&new).await.expect("an asset is made");
        self.model.put(asset.clone());
        asset
    }

    async fn add(&self, name: &str, description: &str, policy_meta: Value) {
        self.put(NewAsset { name: name.into(), description: description.into(), policy_meta, ..self.blank() }).await;
    }

    async fn price(&self, asset: &Asset, satoshis: u64) {
        let now = to_micros(Timestamp::now());
        assert!(self.store.set_price(asset.version_id, satoshis, None, now).await.expect("priced"));
        self.model.put(Asset { price_satoshis: satoshis, ..asset.clone() });
    }

    /// Everything on this shelf.
    fn all(&self) -> SearchFilter {
        SearchFilter { dataset_id: Some(self.dataset.clone()), ..SearchFilter::default() }
    }

    fn filter(&self, typed: &str) -> SearchFilter {
        SearchFilter { text: Some(TextQuery::parse(typed).expect("a query")), ..self.all() }
    }

    /// The results of a query. Asserts that the model finds the same.
    async fn find(&self, filter: &SearchFilter) -> Vec<Hit> {
        let page = self.store.search(filter, None, 100).await.expect("an answer");
        assert_eq!(page.next, None);
        let model = self.model.search(filter, None, 100).await.expect("the model answers");
        assert_eq!(brief(&page.hits), brief(&model.hits), "{filter:?}");
        assert_eq!(page.hits, model.hits);
        page.hits
    }

    /// The names of the results for a text.
    async fn names(&self, typed: &str) -> Vec<String> {
        self.find(&self.filter(typed)).await.into_iter().map(|hit| hit.asset.name).collect()
    }
}

fn brief(hits: &[Hit]) -> Vec<(MatchedField, &str)> {
    hits.iter().map(|hit| (hit.found, hit.asset.name.as_str())).collect()
}
