//! The promises of the keys that mark clients, as scenarios that every adapter runs unchanged.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use crate::ports::{ClientKeys, Timekeeper, Upkeep};

/// Runs every scenario. The store's database has no keys yet.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl ClientKeys + Timekeeper + Upkeep>) {
    assert!(store.kept_keys().await.expect("read").is_empty());
    let proposals = (1..=5).map(|byte| store.key_of_today([byte; 32]));
    let keys: Vec<_> = join_all(proposals).await.into_iter().map(|key| key.expect("a key")).collect();
    let left = keys[0].left;
    assert!(left <= Duration::from_secs(86_400));
    if left < Duration::from_secs(60) {
        // The next day may have begun meanwhile.
        return;
    }
    assert!(keys.iter().all(|key| key.key == keys[0].key), "of several proposals one is the key");
    assert_eq!(store.key_of_today([9; 32]).await.expect("a key").key, keys[0].key);
    let kept = store.kept_keys().await.expect("read");
    assert_eq!(kept.iter().map(|(_, key)| *key).collect::<Vec<_>>(), [keys[0].key]);

    // Whatever the caller's clock says, the day in which the database is has its key.
    let ahead = store.time().await.expect("a time") + Duration::from_secs(100 * 86_400);
    assert_eq!(store.forget_client_keys(ahead).await.expect("answered"), 0);
    assert_eq!(store.kept_keys().await.expect("read"), kept);
}
