//! What every [`Installations`] promises.

use jiff::Timestamp;

use crate::ports::Installations;

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: &impl Installations) {
    an_installation_has_one_identity_from_the_beginning(store).await;
}

async fn an_installation_has_one_identity_from_the_beginning(store: &impl Installations) {
    let installation = store.installation().await.expect("an answer");
    assert_eq!(installation.installation_id.as_uuid().get_version_num(), 4, "{installation:?}");
    assert!(installation.created_at <= Timestamp::now(), "{installation:?}");
    assert_eq!(store.installation().await.expect("an answer"), installation);
}
