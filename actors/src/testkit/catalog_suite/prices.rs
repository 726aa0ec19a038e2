//! Prices: set by the owner of an asset, or by an admin.

use super::*;

pub(super) async fn run<S: Catalog>(store: &S) {
    the_owner_sets_the_price(store).await;
    another_producer_does_not(store).await;
    an_admin_prices_any_asset(store).await;
    an_unknown_asset_has_no_price(store).await;
    a_price_beyond_any_money_is_rejected(store).await;
}

async fn the_owner_sets_the_price<S: Catalog>(store: &S) {
    let asset = asset(store).await;
    // All the money that will ever exist, in satoshis, and none.
    for satoshis in [2_100_000_000_000_000, 0] {
        let set = store.set_price(asset.version_id, satoshis, Some(asset.producer_id), now()).await;
        assert!(set.expect("an answer"));
        assert_eq!(price(store, &asset).await, satoshis);
    }
}

async fn another_producer_does_not<S: Catalog>(store: &S) {
    let asset = asset(store).await;
    let other = producer(store).await;
    assert!(!store.set_price(asset.version_id, 1, Some(other), now()).await.expect("an answer"));
    assert_eq!(price(store, &asset).await, asset.price_satoshis);
}

async fn an_admin_prices_any_asset<S: Catalog>(store: &S) {
    let asset = asset(store).await;
    assert!(store.set_price(asset.version_id, 21, None, now()).await.expect("an answer"));
    assert_eq!(price(store, &asset).await, 21);
}

async fn an_unknown_asset_has_no_price<S: Catalog>(store: &S) {
    assert!(!store.set_price(VersionId::next(), 1, None, now()).await.expect("an answer"));
}

async fn a_price_beyond_any_money_is_rejected<S: Catalog>(store: &S) {
    let asset = asset(store).await;
    assert_rejected(&store.set_price(asset.version_id, u64::MAX, None, now()).await);
    assert_eq!(price(store, &asset).await, asset.price_satoshis);
}

async fn price<S: Catalog>(store: &S, asset: &Asset) -> u64 {
    store.asset(asset.version_id).await.expect("an answer").expect("the asset").price_satoshis
}
