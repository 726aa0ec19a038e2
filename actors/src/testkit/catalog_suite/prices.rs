//! Prices: set by the owner of an asset, or by an admin.

use super::*;

pub(super) async fn run<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    the_owner_sets_the_price(assets, store).await;
    another_producer_does_not(assets, store).await;
    an_admin_prices_any_asset(assets, store).await;
    an_unknown_asset_has_no_price(assets).await;
    a_price_beyond_any_money_is_rejected(assets, store).await;
}

async fn the_owner_sets_the_price<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let asset = asset_in(assets, store).await;
    // All the money that will ever exist, in satoshis, and none.
    for satoshis in [2_100_000_000_000_000, 0] {
        let set = assets.set_price(asset.version_id, satoshis, Some(asset.producer_id), now()).await;
        assert!(set.expect("an answer"));
        assert_eq!(price(assets, &asset).await, satoshis);
    }
}

async fn another_producer_does_not<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let asset = asset_in(assets, store).await;
    let other = producer(store).await;
    assert!(!assets.set_price(asset.version_id, 1, Some(other), now()).await.expect("an answer"));
    assert_eq!(price(assets, &asset).await, asset.price_satoshis);
}

async fn an_admin_prices_any_asset<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let asset = asset_in(assets, store).await;
    assert!(assets.set_price(asset.version_id, 21, None, now()).await.expect("an answer"));
    assert_eq!(price(assets, &asset).await, 21);
}

async fn an_unknown_asset_has_no_price(assets: &dyn Assets) {
    assert!(!assets.set_price(VersionId::next(), 1, None, now()).await.expect("an answer"));
}

async fn a_price_beyond_any_money_is_rejected<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let asset = asset_in(assets, store).await;
    assert_rejected(&assets.set_price(asset.version_id, u64::MAX, None, now()).await);
    assert_eq!(price(assets, &asset).await, asset.price_satoshis);
}

async fn price(assets: &dyn Assets, asset: &Asset) -> u64 {
    assets.asset(asset.version_id).await.expect("an answer").expect("the asset").price_satoshis
}
