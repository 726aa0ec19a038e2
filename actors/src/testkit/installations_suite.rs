//! The promises of every [`Installations`]. The suite notes stores of all tiers, so it needs a database of its own.

use jiff::Timestamp;

use crate::{model::Tier, ports::Installations};

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: &impl Installations) {
    an_installation_has_one_identity_from_the_beginning(store).await;
    a_store_that_was_noted_is_known_by_where_it_was_last(store).await;
}

async fn an_installation_has_one_identity_from_the_beginning(store: &impl Installations) {
    let installation = store.installation().await.expect("an answer");
    assert_eq!(installation.installation_id.as_uuid().get_version_num(), 4, "{installation:?}");
    assert!(installation.created_at <= Timestamp::now(), "{installation:?}");
    assert_eq!(store.installation().await.expect("an answer"), installation);
}

async fn a_store_that_was_noted_is_known_by_where_it_was_last(store: &impl Installations) {
    for &tier in Tier::ALL {
        assert_eq!(store.store_of(tier).await.expect("an answer"), None);
        for place in ["/srv/blobs", "s3://bucket/prefix"] {
            store.note_store(tier, place).await.expect("noted");
            assert_eq!(store.store_of(tier).await.expect("an answer").as_deref(), Some(place));
        }
    }
}
