//! The promises about the catalogue: producers with their keys ([`ApiKeys`]), contents ([`ContentIndex`]) and [`Assets`].
//!
//! Each promise makes its own producers, keys, contents and assets under fresh random ids, so the suite may share a
//! database with other tests, and run again on the same one. Nothing else may withdraw announcements in it meanwhile:
//! that call acts on all announcements that are old enough.

use std::{fmt::Debug, sync::Arc};

use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::{
    clock::to_micros,
    ids::{ContentHash, KeyId, ProducerId, VersionId},
    model::{ApiKey, Asset, ContentMeta, NewAsset, NewProducer, Role, UNSAID_MEDIA_TYPE},
    ports::{ApiKeys, Assets, ContentIndex, PortError, PortResult},
};

mod assets;
mod content;
mod keys;
mod prices;

pub use keys::a_revoked_key_is_not_found;

/// An adapter that keeps the whole catalogue.
pub trait CatalogStore: ApiKeys + ContentIndex + Assets {}

impl<S: ApiKeys + ContentIndex + Assets> CatalogStore for S {}

/// Runs every promise that can be checked through the ports alone.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: CatalogStore>(store: Arc<S>) {
    keys::run(&*store).await;
    content::run(&*store).await;
    run_assets(&*store, &*store).await;
}

/// Runs the promises of [`Assets`] alone, about producers and contents in this store.
///
/// # Panics
/// When a promise is broken.
pub async fn run_assets<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    assets::run(assets, store).await;
    prices::run(assets, store).await;
}

/// The time of all calls of the suite: now, with the precision of a database.
fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

/// 32 bytes that occur nowhere else.
fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    for half in bytes.chunks_exact_mut(16) {
        half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    bytes
}

fn random_hash() -> ContentHash {
    ContentHash::from_bytes(random_bytes())
}

fn producer_with_key(role: Role) -> NewProducer {
    let key = ApiKey {
        key_id: KeyId::next(),
        producer_id: ProducerId::next(),
        role,
        secret_hash: random_bytes(),
        ends_in: None,
    };
    NewProducer { name: "Éditions du Quai — 出版".into(), key, created_at: now() }
}

/// A producer that exists in the store.
///
/// # Panics
/// When the store does not take it.
pub async fn producer<S: ApiKeys>(store: &S) -> ProducerId {
    let new = producer_with_key(Role::Producer);
    store.create_producer(&new).await.expect("a producer is made");
    new.key.producer_id
}

fn random_content() -> ContentMeta {
    ContentMeta { content_hash: random_hash(), size_bytes: 3 << 30, media_type: "video/mp4".into(), stored_at: now() }
}

/// A content that is stored.
async fn stored_content<S: ContentIndex>(store: &S, by: ProducerId) -> ContentMeta {
    let meta = random_content();
    store.announce_content(&meta, by).await.expect("content is announced");
    assert!(store.complete_content(meta.content_hash).await.expect("content is completed"));
    meta
}

fn new_asset(content_hash: ContentHash, producer_id: ProducerId) -> NewAsset {
    NewAsset {
        version_id: VersionId::next(),
        content_hash,
        name: "Tide tables".into(),
        description: "Every harbour, every tide".into(),
        media_type: Some("text/csv".into()),
        dataset_id: Some("harbours/2026".into()),
        policy_meta: json!({"licence": "CC-BY-4.0"}),
        producer_id,
        price_satoshis: 1200,
        created_at: now(),
    }
}

/// An asset that exists in the store, with its producer.
pub(super) async fn asset<S: CatalogStore>(store: &S) -> Asset {
    asset_in(store, store).await
}

async fn asset_in<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) -> Asset {
    let by = producer(store).await;
    let content = stored_content(store, by).await;
    assets.create_asset(&new_asset(content.content_hash, by)).await.expect("an asset is made")
}

fn assert_rejected<T: Debug>(result: &PortResult<T>) {
    assert!(matches!(result, Err(PortError::Rejected { .. })), "should have been rejected: {result:?}");
}
