//! The promises of a database's clock, as scenarios that every adapter runs unchanged.

use std::{sync::Arc, time::Duration};

use crate::ports::Timekeeper;

/// Runs every scenario. No instance has used the store's database yet.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl Timekeeper>) {
    let first = store.time().await.expect("a time");
    assert!(store.time().await.expect("a time") >= first, "time goes on");

    assert_eq!(store.trusted_time().await.expect("read"), None, "no time was trusted yet");
    let later = first + Duration::from_secs(3600);
    // The time may go back as well: the one trusted before may have been wrong.
    for at in [first, later, first] {
        store.trust_time(at).await.expect("written");
        assert_eq!(store.trusted_time().await.expect("read"), Some(at));
    }
}
