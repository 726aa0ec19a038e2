//! The promises of every [`ConsoleSessions`]. The suite makes its own key, so it may share a database.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::catalog_suite;
use crate::{
    clock::to_micros,
    ids::KeyId,
    model::{ApiKey, NewKey, Role},
    ports::{ApiKeys, ConsoleSessions, MOST_SESSIONS_OF_A_KEY, NewConsoleSession},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl ApiKeys + ConsoleSessions>) {
    let store = &*store;
    let producer_id = catalog_suite::producer(store).await;
    let (key_id, secret_hash) = (KeyId::next(), random());
    let key = ApiKey { key_id, producer_id, role: Role::Producer, secret_hash, ends_in: None };
    let new = NewKey { key, name: "a person's".into(), created_at: to_micros(Timestamp::now()) };
    store.add_key(&new).await.expect("added");
    let session = |ttl| NewConsoleSession { token_hash: random(), secret_hash, key_id, ttl };
    a_session_is_found_until_it_ends(store, &session(HOUR)).await;
    a_session_expires(store, &session(Duration::from_millis(1)), &session(HOUR)).await;
    the_oldest_session_ends_when_a_key_has_too_many(store, || session(HOUR)).await;
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

async fn is_open(store: &impl ConsoleSessions, new: &NewConsoleSession) -> bool {
    store.console_session(&new.token_hash).await.expect("read").is_some()
}

async fn a_session_is_found_until_it_ends(store: &impl ConsoleSessions, new: &NewConsoleSession) {
    assert!(!is_open(store, new).await);
    let begun = store.begin_console_session(new).await.expect("begun");
    assert_eq!((begun.secret_hash, begun.key_id), (new.secret_hash, new.key_id));
    assert_eq!(store.console_session(&new.token_hash).await.expect("read"), Some(begun));
    assert_eq!(store.console_session(&new.secret_hash).await.expect("read"), None, "only its token opens it");
    assert!(store.end_console_session(&new.token_hash).await.expect("ended"));
    assert!(!is_open(store, new).await);
    assert!(!store.end_console_session(&new.token_hash).await.expect("answered"), "it ends once");
}

async fn a_session_expires(store: &impl ConsoleSessions, short: &NewConsoleSession, long: &NewConsoleSession) {
    store.begin_console_session(short).await.expect("begun");
    store.begin_console_session(long).await.expect("begun");
    while is_open(store, short).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_open(store, long).await);
    assert!(store.end_console_session(&long.token_hash).await.expect("ended"));
}

async fn the_oldest_session_ends_when_a_key_has_too_many(
    store: &impl ConsoleSessions,
    new: impl Fn() -> NewConsoleSession,
) {
    let mut begun = Vec::new();
    for _ in 0..=MOST_SESSIONS_OF_A_KEY {
        let one = new();
        store.begin_console_session(&one).await.expect("begun");
        begun.push(one);
    }
    assert!(!is_open(store, &begun[0]).await);
    for one in &begun[1..] {
        assert!(is_open(store, one).await);
        store.end_console_session(&one.token_hash).await.expect("ended");
    }
}
