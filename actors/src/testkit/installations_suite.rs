//! The promises of every [`Installations`]. The suite notes stores of all tiers, so it needs a database of its own.

use jiff::Timestamp;

use crate::{
    ids::StoreId,
    model::{NotedStore, StorageTier},
    ports::Installations,
};

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: &impl Installations) {
    an_installation_has_one_identity_from_the_beginning(store).await;
    of_stores_that_are_claimed_at_once_the_first_is_a_tiers_own(store).await;
    a_store_that_was_noted_is_known_by_where_it_was_last(store).await;
}

async fn an_installation_has_one_identity_from_the_beginning(store: &impl Installations) {
    let installation = store.installation().await.expect("an answer");
    assert_eq!(installation.installation_id.as_uuid().get_version_num(), 4, "{installation:?}");
    assert!(installation.created_at <= Timestamp::now(), "{installation:?}");
    assert_eq!(store.installation().await.expect("an answer"), installation);
}

fn at(place: &str, store_id: Option<StoreId>) -> NotedStore {
    NotedStore { place: place.to_owned(), store_id }
}

async fn of_stores_that_are_claimed_at_once_the_first_is_a_tiers_own(store: &impl Installations) {
    let installation = store.installation().await.expect("an answer");
    for &tier in StorageTier::ALL {
        assert_eq!(store.store_of(tier).await.expect("an answer"), (installation, None));
        let wanted: Vec<_> = (0..8).map(|number| at(&format!("/srv/{number}"), Some(StoreId::random()))).collect();
        let claims = wanted.iter().map(|wanted| store.claim_store(tier, wanted));
        let got = futures::future::try_join_all(claims).await.expect("claimed");
        assert!(wanted.contains(&got[0]) && got.iter().all(|claimed| *claimed == got[0]), "{got:?}");
        assert_eq!(store.store_of(tier).await.expect("an answer").1.as_ref(), Some(&got[0]));
    }
}

async fn a_store_that_was_noted_is_known_by_where_it_was_last(store: &impl Installations) {
    for &tier in StorageTier::ALL {
        for noted in [at("/srv/blobs", Some(StoreId::random())), at("s3://bucket/prefix", None)] {
            store.note_store(tier, &noted).await.expect("noted");
            assert_eq!(store.store_of(tier).await.expect("an answer").1, Some(noted));
        }
        // Recorded by an earlier version, without an id: the first claim with an id sets it.
        let known = at("s3://bucket/prefix", Some(StoreId::random()));
        for claimed in [at("/other", None), at("/srv/blobs", known.store_id), at("/srv/blobs", Some(StoreId::random()))]
        {
            let expected = at("s3://bucket/prefix", claimed.store_id.and(known.store_id));
            assert_eq!(store.claim_store(tier, &claimed).await.expect("claimed"), expected);
        }
    }
}
