//! Producers and their keys.

use super::*;

pub(super) async fn run<S: ApiKeys>(store: &S) {
    a_key_is_found_by_the_hash_of_its_secret(store).await;
    an_unknown_secret_finds_nothing(store).await;
    a_producer_that_is_made_twice_is_left_as_it_is(store).await;
    a_second_key_of_a_producer_leaves_the_first_valid(store).await;
    a_secret_belongs_to_one_key(store).await;
    a_replaced_secret_keeps_the_key_and_ends_the_old_secret(store).await;
}

async fn a_key_is_found_by_the_hash_of_its_secret<S: ApiKeys>(store: &S) {
    for role in [Role::Producer, Role::Admin] {
        let new = producer_with_key(role);
        store.create_producer(&new).await.expect("a producer is made");
        assert_eq!(store.key(&new.key.secret_hash).await.expect("an answer"), Some(new.key));
    }
}

async fn an_unknown_secret_finds_nothing<S: ApiKeys>(store: &S) {
    assert_eq!(store.key(&random_bytes()).await.expect("an answer"), None);
    assert_eq!(store.key(&[0; 32]).await.expect("an answer"), None);
}

async fn a_producer_that_is_made_twice_is_left_as_it_is<S: ApiKeys>(store: &S) {
    let new = producer_with_key(Role::Producer);
    store.create_producer(&new).await.expect("a producer is made");
    let mut again = new.clone();
    again.name = "Another name".into();
    again.key.role = Role::Admin;
    again.key.secret_hash = random_bytes();
    store.create_producer(&again).await.expect("a repeated call succeeds");
    assert_eq!(store.key(&again.key.secret_hash).await.expect("an answer"), None);
    assert_eq!(store.key(&new.key.secret_hash).await.expect("an answer"), Some(new.key));
}

async fn a_second_key_of_a_producer_leaves_the_first_valid<S: ApiKeys>(store: &S) {
    let first = producer_with_key(Role::Producer);
    let mut second = producer_with_key(Role::Producer);
    second.key.producer_id = first.key.producer_id;
    for new in [&first, &second] {
        store.create_producer(new).await.expect("a producer is made");
    }
    for new in [first, second] {
        assert_eq!(store.key(&new.key.secret_hash).await.expect("an answer"), Some(new.key));
    }
}

async fn a_secret_belongs_to_one_key<S: ApiKeys>(store: &S) {
    let first = producer_with_key(Role::Producer);
    let mut second = producer_with_key(Role::Producer);
    second.key.secret_hash = first.key.secret_hash;
    store.create_producer(&first).await.expect("a producer is made");
    assert_rejected(&store.create_producer(&second).await);
    assert_eq!(store.key(&first.key.secret_hash).await.expect("an answer"), Some(first.key));
}

async fn a_replaced_secret_keeps_the_key_and_ends_the_old_secret<S: ApiKeys>(store: &S) {
    let new = producer_with_key(Role::Admin);
    store.create_producer(&new).await.expect("a producer is made");
    let secret_hash = random_bytes();
    assert!(store.replace_key_secret(new.key.key_id, &secret_hash).await.expect("an answer"));
    assert_eq!(store.key(&new.key.secret_hash).await.expect("an answer"), None);
    let found = store.key(&secret_hash).await.expect("an answer");
    assert_eq!(found, Some(ApiKey { secret_hash, ..new.key }));
    assert!(!store.replace_key_secret(KeyId::next(), &random_bytes()).await.expect("an answer"));
}

/// The promise about revoked keys. The port cannot revoke, so `revoke` does it directly in the database.
///
/// # Panics
/// When the promise is broken.
pub async fn a_revoked_key_is_not_found<S: ApiKeys>(store: &S, revoke: impl AsyncFnOnce(KeyId)) {
    let new = producer_with_key(Role::Producer);
    store.create_producer(&new).await.expect("a producer is made");
    revoke(new.key.key_id).await;
    assert_eq!(store.key(&new.key.secret_hash).await.expect("an answer"), None);
}
