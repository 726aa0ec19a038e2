//! The promises of every [`ApiKeys`]. Each promise makes its own producers and keys, so the suite may share a database.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::catalog_suite;
use crate::{
    clock::to_micros,
    ids::{KeyId, ProducerId},
    model::{ApiKey, KeyInfo, NewKey, Role},
    ports::{ApiKeys, ChangeMark, Changes, Missing, PortError, Tag},
};

/// Lines of the log in one page: more than change here at a time.
const PAGE: u32 = 1000;

/// An adapter that keeps keys beside producers and the log of changes.
pub trait KeyStore: ApiKeys + Changes {}

impl<S: ApiKeys + Changes> KeyStore for S {}

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl KeyStore>) {
    let store = &*store;
    a_further_key_opens_and_is_listed(store).await;
    a_key_without_a_producer_is_not_created(store).await;
    a_rotated_key_keeps_its_id_and_ends_its_old_secret(store).await;
    a_rotated_keys_old_secret_opens_within_the_overlap(store).await;
    an_overlap_ends_by_time_and_by_the_next_rotation(store).await;
    a_revoked_key_opens_nothing_and_stays_in_the_list(store).await;
    the_use_of_a_key_is_noted_and_is_no_change(store).await;
    a_key_is_its_own_producers_alone(store).await;
    keys_and_producers_are_listed_page_by_page(store).await;
    every_end_of_a_secret_stands_in_the_log(store).await;
}

fn secret() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

fn new_key(producer_id: ProducerId, name: &str) -> NewKey {
    let key = ApiKey { key_id: KeyId::next(), producer_id, role: Role::Producer, secret_hash: secret(), ends_in: None };
    NewKey { key, name: name.into(), created_at: to_micros(Timestamp::now()) }
}

async fn added(store: &impl KeyStore, producer: ProducerId) -> NewKey {
    let new = new_key(producer, "a machine's");
    store.add_key(&new).await.expect("added");
    new
}

async fn opens(store: &impl KeyStore, secret: &[u8; 32]) -> Option<KeyId> {
    store.key(secret).await.expect("an answer").map(|key| key.key_id)
}

async fn listed(store: &impl KeyStore, producer: ProducerId) -> Vec<KeyInfo> {
    let page = store.keys(producer, None, PAGE).await.expect("an answer");
    assert!(!page.more);
    page.items
}

async fn a_further_key_opens_and_is_listed(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let first = listed(store, producer).await;
    assert_eq!((first.len(), &*first[0].name, first[0].revoked_at), (1, "", None), "the key that it was made with");
    let new = added(store, producer).await;
    assert_eq!(opens(store, &new.key.secret_hash).await, Some(new.key.key_id));
    let info = KeyInfo {
        key_id: new.key.key_id,
        producer_id: producer,
        role: Role::Producer,
        name: new.name,
        created_at: new.created_at,
        revoked_at: None,
        previous_valid_until: None,
        last_used_at: None,
    };
    assert!(listed(store, producer).await.contains(&info));
}

async fn a_key_without_a_producer_is_not_created(store: &impl KeyStore) {
    let new = new_key(ProducerId::next(), "");
    let made = store.add_key(&new).await;
    assert!(matches!(made, Err(PortError::NotFound(Missing::Producer))), "{made:?}");
    assert_eq!(opens(store, &new.key.secret_hash).await, None);
}

async fn a_rotated_key_keeps_its_id_and_ends_its_old_secret(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let (new, next) = (added(store, producer).await, secret());
    let rotated =
        store.rotate_key(new.key.key_id, producer, &next, Duration::ZERO).await.expect("an answer").expect("rotated");
    assert_eq!((rotated.key_id, rotated.created_at), (new.key.key_id, new.created_at));
    assert_eq!(opens(store, &new.key.secret_hash).await, None);
    assert_eq!(opens(store, &next).await, Some(new.key.key_id));
}

async fn a_rotated_keys_old_secret_opens_within_the_overlap(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let (new, next, hour) = (added(store, producer).await, secret(), Duration::from_secs(3600));
    let id = new.key.key_id;
    let rotated = store.rotate_key(id, producer, &next, hour).await.expect("an answer").expect("rotated");
    let until = rotated.previous_valid_until.expect("the old secret has an end");
    assert!(listed(store, producer).await.contains(&rotated));
    let old = store.key(&new.key.secret_hash).await.expect("an answer").expect("it is valid");
    assert_eq!((old.key_id, old.secret_hash), (id, new.key.secret_hash));
    assert!(old.ends_in.expect("an end") <= hour, "{:?}", old.ends_in);
    assert!(until > new.created_at, "{until}");
    let fresh = store.key(&next).await.expect("an answer").expect("it is valid");
    assert_eq!(fresh, ApiKey { secret_hash: next, ..new.key });
    assert!(store.revoke_key(id, producer, new.created_at).await.expect("an answer"));
    assert_eq!((opens(store, &new.key.secret_hash).await, opens(store, &next).await), (None, None), "both end");
    assert!(listed(store, producer).await.iter().all(|key| key.previous_valid_until.is_none()));
}

async fn an_overlap_ends_by_time_and_by_the_next_rotation(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let (new, second, third, hour) = (added(store, producer).await, secret(), secret(), Duration::from_secs(3600));
    let id = new.key.key_id;
    store.rotate_key(id, producer, &second, hour).await.expect("an answer").expect("rotated");
    store.rotate_key(id, producer, &third, Duration::from_millis(1)).await.expect("an answer").expect("rotated");
    assert_eq!(
        opens(store, &new.key.secret_hash).await,
        None,
        "only the last secret before the new one has an overlap"
    );
    while opens(store, &second).await.is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(opens(store, &third).await, Some(id));
    assert!(listed(store, producer).await.iter().all(|key| key.previous_valid_until.is_none()));
    let fourth = secret();
    store.rotate_key(id, producer, &fourth, hour).await.expect("an answer").expect("rotated");
    assert!(store.replace_key_secret(id, &secret()).await.expect("an answer"));
    assert_eq!((opens(store, &third).await, opens(store, &fourth).await), (None, None));
}

async fn the_use_of_a_key_is_noted_and_is_no_change(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let new = added(store, producer).await;
    let used = async || {
        let keys = listed(store, producer).await;
        keys.iter().find(|key| key.key_id == new.key.key_id).expect("it is listed").last_used_at
    };
    let mark = here(store).await;
    store.note_key_use(new.key.key_id).await.expect("noted");
    let first = used().await.expect("a time");
    store.note_key_use(new.key.key_id).await.expect("noted");
    assert!(used().await.expect("a time") >= first);
    assert!(!is_announced(store, mark, new.key.key_id).await, "caches keep the key");
    store.note_key_use(KeyId::next()).await.expect("a key that is gone is no error");
}

async fn a_revoked_key_opens_nothing_and_stays_in_the_list(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let (new, at) = (added(store, producer).await, to_micros(Timestamp::now()));
    assert!(store.revoke_key(new.key.key_id, producer, at).await.expect("an answer"));
    assert_eq!(opens(store, &new.key.secret_hash).await, None);
    let later = at + std::time::Duration::from_secs(1);
    assert!(
        store.revoke_key(new.key.key_id, producer, later).await.expect("an answer"),
        "revoking again changes nothing"
    );
    let keys = listed(store, producer).await;
    let revoked = keys.iter().find(|key| key.key_id == new.key.key_id).expect("it is still known");
    assert_eq!(revoked.revoked_at, Some(at));
    assert_eq!(
        store.rotate_key(new.key.key_id, producer, &secret(), Duration::ZERO).await.expect("an answer"),
        None,
        "for good"
    );
}

async fn a_key_is_its_own_producers_alone(store: &impl KeyStore) {
    let (owner, other) = (catalog_suite::producer(store).await, catalog_suite::producer(store).await);
    let new = added(store, owner).await;
    assert!(!store.revoke_key(new.key.key_id, other, new.created_at).await.expect("an answer"));
    assert_eq!(store.rotate_key(new.key.key_id, other, &secret(), Duration::ZERO).await.expect("an answer"), None);
    assert!(!store.revoke_key(KeyId::next(), owner, new.created_at).await.expect("an answer"));
    assert_eq!(opens(store, &new.key.secret_hash).await, Some(new.key.key_id));
}

async fn keys_and_producers_are_listed_page_by_page(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    for _ in 0..3 {
        added(store, producer).await;
    }
    let all = listed(store, producer).await;
    let mut pages: Vec<KeyInfo> = Vec::new();
    loop {
        let after = pages.last().map(|last| (last.created_at, last.key_id));
        let page = store.keys(producer, after, 3).await.expect("an answer");
        pages.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!((pages.len(), &pages), (4, &all));
    let mut producers = Vec::new();
    loop {
        let page = store.producers(producers.last().copied(), 50).await.expect("an answer");
        producers.extend(page.items.iter().map(|producer| producer.producer_id));
        if !page.more {
            break;
        }
    }
    assert!(producers.contains(&producer) && producers.is_sorted());
}

async fn every_end_of_a_secret_stands_in_the_log(store: &impl KeyStore) {
    let producer = catalog_suite::producer(store).await;
    let new = added(store, producer).await;
    let id = new.key.key_id;
    let mark = here(store).await;
    store.rotate_key(id, producer, &secret(), Duration::ZERO).await.expect("rotated");
    assert!(is_announced(store, mark, id).await);
    let mark = here(store).await;
    store.replace_key_secret(id, &secret()).await.expect("replaced");
    assert!(is_announced(store, mark, id).await);
    let mark = here(store).await;
    store.revoke_key(id, producer, new.created_at).await.expect("revoked");
    assert!(is_announced(store, mark, id).await);
    let mark = here(store).await;
    store.note_changes(&[Tag::Key(id)]).await.expect("noted");
    assert!(is_announced(store, mark, id).await);
}

async fn here(store: &impl Changes) -> ChangeMark {
    store.changes(None, PAGE).await.expect("read").mark
}

async fn is_announced(store: &impl Changes, mark: ChangeMark, id: KeyId) -> bool {
    let page = store.changes(Some(mark), PAGE).await.expect("read");
    page.changes.iter().any(|change| change.tag == Tag::Key(id))
}
