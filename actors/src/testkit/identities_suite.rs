//! The promises of every [`Identities`]. Each promise makes its own producers and keys, so the suite may share a database.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;

use super::catalog_suite;
use crate::{
    clock::to_micros,
    ids::ProducerId,
    model::{Binding, IdentityKey},
    ports::{ApiKeys, BindOutcome, ChangeMark, Changes, Identities, Missing, PortError, Tag},
};

/// Lines of the log in one page: more than change here at a time.
const PAGE: u32 = 1000;

/// An adapter that keeps identities beside producers and the log of changes.
pub trait IdentityStore: Identities + ApiKeys + Changes {}

impl<S: Identities + ApiKeys + Changes> IdentityStore for S {}

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl IdentityStore>) {
    let store = &*store;
    a_key_speaks_for_the_producer_that_it_was_bound_to(store).await;
    a_key_that_is_bound_again_stays_as_it_was(store).await;
    a_key_speaks_for_one_producer_only(store).await;
    of_producers_that_claim_one_key_exactly_one_gets_it(store).await;
    a_key_without_a_producer_is_not_bound(store).await;
    an_unbound_key_speaks_for_no_producer(store).await;
    every_change_of_a_key_stands_in_the_log(store).await;
}

fn key() -> IdentityKey {
    let mut bytes = [0; 33];
    bytes[0] = 2;
    bytes[1..17].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes[17..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    IdentityKey::from_bytes(bytes).expect("a compressed key")
}

fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

async fn bind(store: &impl Identities, key: IdentityKey, producer: ProducerId) -> BindOutcome {
    store.bind_identity(key, producer, now()).await.expect("an answer")
}

async fn speaks_for(store: &impl Identities, key: IdentityKey) -> Option<ProducerId> {
    store.identity(key).await.expect("an answer")
}

async fn a_key_speaks_for_the_producer_that_it_was_bound_to(store: &impl IdentityStore) {
    let (producer, first, second) = (catalog_suite::producer(store).await, key(), key());
    assert_eq!(speaks_for(store, first).await, None);
    let BindOutcome::New(one) = bind(store, first, producer).await else { panic!("it is new") };
    assert_eq!((one.identity_key, one.producer_id), (first, producer));
    let BindOutcome::New(other) = bind(store, second, producer).await else { panic!("it is new") };
    assert_eq!(speaks_for(store, first).await, Some(producer));
    assert_eq!(speaks_for(store, second).await, Some(producer));
    let listed: Vec<Binding> = store.identities(producer).await.expect("an answer");
    assert_eq!(listed, [one, other], "oldest first");
}

async fn a_key_that_is_bound_again_stays_as_it_was(store: &impl IdentityStore) {
    let (producer, key) = (catalog_suite::producer(store).await, key());
    let BindOutcome::New(made) = bind(store, key, producer).await else { panic!("it is new") };
    assert_eq!(bind(store, key, producer).await, BindOutcome::Already(made));
}

async fn a_key_speaks_for_one_producer_only(store: &impl IdentityStore) {
    let (owner, other) = (catalog_suite::producer(store).await, catalog_suite::producer(store).await);
    let key = key();
    bind(store, key, owner).await;
    assert_eq!(bind(store, key, other).await, BindOutcome::Taken);
    assert!(!store.unbind_identity(key, other).await.expect("an answer"), "another producer cannot unbind it");
    assert_eq!(speaks_for(store, key).await, Some(owner));
    assert_eq!(store.identities(other).await.expect("an answer"), []);
}

async fn of_producers_that_claim_one_key_exactly_one_gets_it(store: &impl IdentityStore) {
    let producers = join_all((0..8).map(|_| catalog_suite::producer(store))).await;
    let key = key();
    let answers = join_all(producers.iter().map(|producer| bind(store, key, *producer))).await;
    let winners: Vec<_> = answers
        .iter()
        .filter_map(|bound| match bound {
            BindOutcome::New(binding) => Some(binding.producer_id),
            BindOutcome::Taken => None,
            BindOutcome::Already(_) => panic!("each call is for another producer"),
        })
        .collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert_eq!(speaks_for(store, key).await, Some(winners[0]));
}

async fn a_key_without_a_producer_is_not_bound(store: &impl IdentityStore) {
    let key = key();
    let bound = store.bind_identity(key, ProducerId::next(), now()).await;
    assert!(matches!(bound, Err(PortError::NotFound(Missing::Producer))), "{bound:?}");
    assert_eq!(speaks_for(store, key).await, None);
}

async fn an_unbound_key_speaks_for_no_producer(store: &impl IdentityStore) {
    let (producer, other) = (catalog_suite::producer(store).await, catalog_suite::producer(store).await);
    let key = key();
    bind(store, key, producer).await;
    assert!(store.unbind_identity(key, producer).await.expect("an answer"));
    assert!(!store.unbind_identity(key, producer).await.expect("an answer"), "it is already unbound");
    assert_eq!(speaks_for(store, key).await, None);
    assert!(matches!(bind(store, key, other).await, BindOutcome::New(_)), "another producer may bind it");
}

async fn every_change_of_a_key_stands_in_the_log(store: &impl IdentityStore) {
    let (producer, key) = (catalog_suite::producer(store).await, key());
    let mark = here(store).await;
    bind(store, key, producer).await;
    assert!(is_announced(store, mark, key).await, "other instances may have cached that it is unbound");
    let mark = here(store).await;
    store.unbind_identity(key, producer).await.expect("an answer");
    assert!(is_announced(store, mark, key).await);
    let mark = here(store).await;
    store.note_changes(&[Tag::Identity(key)]).await.expect("noted");
    assert!(is_announced(store, mark, key).await);
}

async fn here(store: &impl Changes) -> ChangeMark {
    store.changes(None, PAGE).await.expect("read").mark
}

async fn is_announced(store: &impl Changes, mark: ChangeMark, key: IdentityKey) -> bool {
    let page = store.changes(Some(mark), PAGE).await.expect("read");
    page.changes.iter().any(|change| change.tag == Tag::Identity(key))
}
