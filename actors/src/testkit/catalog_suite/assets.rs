//! Assets: what a producer writes is read back.

use super::*;
use crate::ports::NewAssetError;

pub(super) async fn run<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    an_asset_is_read_back_as_it_was_made(assets, store).await;
    an_unknown_asset_is_not_found(assets).await;
    an_asset_needs_stored_content(assets, store).await;
    an_asset_without_a_media_type_has_what_its_producer_said_of_the_content(assets, store).await;
    an_asset_that_is_made_twice_is_one_asset(assets, store).await;
    names_keep_every_character(assets, store).await;
    policy_meta_keeps_its_structure(assets, store).await;
    numbers_in_policy_meta_keep_their_text(assets, store).await;
    one_content_may_have_many_assets(assets, store).await;
}

async fn an_asset_is_read_back_as_it_was_made<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let by = producer(store).await;
    let content = stored_content(store, by).await;
    let new = new_asset(content.content_hash, by);
    let made = assets.create_asset(&new).await.expect("an asset is made");
    let expected = Asset {
        version_id: new.version_id,
        content_hash: content.content_hash,
        name: new.name,
        description: new.description,
        media_type: "text/csv".into(),
        size_bytes: content.size_bytes,
        dataset_id: new.dataset_id,
        policy_meta: new.policy_meta,
        producer_id: by,
        price_satoshis: new.price_satoshis,
        created_at: new.created_at,
    };
    assert_eq!(made, expected);
    assert_eq!(assets.asset(new.version_id).await.expect("an answer"), Some(expected));
}

async fn an_unknown_asset_is_not_found(assets: &dyn Assets) {
    assert_eq!(assets.asset(VersionId::next()).await.expect("an answer"), None);
}

async fn an_asset_needs_stored_content<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let by = producer(store).await;
    let announced = random_content();
    store.announce_content(&announced, by).await.expect("content is announced");
    for hash in [announced.content_hash, random_hash()] {
        let new = new_asset(hash, by);
        let refused = assets.create_asset(&new).await;
        assert!(matches!(refused, Err(NewAssetError::ContentNotStored)), "{refused:?}");
        assert_eq!(assets.asset(new.version_id).await.expect("an answer"), None);
    }
}

async fn an_asset_without_a_media_type_has_what_its_producer_said_of_the_content<S: ApiKeys + ContentIndex>(
    assets: &dyn Assets,
    store: &S,
) {
    let (first, second, silent) = (producer(store).await, producer(store).await, producer(store).await);
    let content = stored_content(store, first).await;
    let again = ContentMeta { media_type: "text/x-second".into(), ..content.clone() };
    store.announce_content(&again, second).await.expect("content is announced");
    for (by, expected) in [(first, &*content.media_type), (second, "text/x-second"), (silent, UNSAID_MEDIA_TYPE)] {
        let new = NewAsset { media_type: None, dataset_id: None, ..new_asset(content.content_hash, by) };
        let made = assets.create_asset(&new).await.expect("an asset is made");
        assert_eq!(made.media_type, expected);
        assert_eq!(made.dataset_id, None);
    }
}

async fn an_asset_that_is_made_twice_is_one_asset<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let made = asset_in(assets, store).await;
    let again = NewAsset {
        version_id: made.version_id,
        name: "Another name".into(),
        price_satoshis: 7,
        ..new_asset(made.content_hash, made.producer_id)
    };
    assert_eq!(assets.create_asset(&again).await.expect("a repeated call succeeds"), made);
}

async fn names_keep_every_character<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let by = producer(store).await;
    let content = stored_content(store, by).await;
    let name = "Ωmega \"quoted\" 'n' %_\\ \u{1F30A}\u{200D} e\u{301} سلام\n\t;--";
    let new = NewAsset {
        name: name.into(),
        description: name.repeat(200),
        dataset_id: Some(name.into()),
        ..new_asset(content.content_hash, by)
    };
    let made = assets.create_asset(&new).await.expect("an asset is made");
    assert_eq!(made.name, name);
    assert_eq!(made.description, new.description);
    assert_eq!(made.dataset_id, new.dataset_id);
}

async fn policy_meta_keeps_its_structure<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let by = producer(store).await;
    let content = stored_content(store, by).await;
    let policy_meta = json!({
        "regions": ["eu", "jp", []],
        "pii": false,
        "retentionDays": 9_007_199_254_740_993_u64,
        "owner": {"name": "Zoë", "mail": null},
        "": "an empty name",
    });
    for policy_meta in [policy_meta, json!({})] {
        let new = NewAsset { policy_meta: policy_meta.clone(), ..new_asset(content.content_hash, by) };
        assets.create_asset(&new).await.expect("an asset is made");
        let read = assets.asset(new.version_id).await.expect("an answer").expect("the asset");
        assert_eq!(read.policy_meta, policy_meta);
    }
}

async fn numbers_in_policy_meta_keep_their_text<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let by = producer(store).await;
    let content = stored_content(store, by).await;
    let long = "7".repeat(20_000);
    for number in [
        "12345678901234567890123",
        "0.1234567890123456789",
        "1e+400",
        "-1.50e-400",
        "1e+7",
        "1e+200000",
        "1.50",
        "-0",
        "-0.0",
        long.as_str(),
        &format!("0.{long}"),
    ] {
        // A client's own member, whatever its name, is not a number.
        let text = format!("{{\"$number 1e7\":[{number},{{\"$number 1e7\":null}},{{\"deep\":{number}}}]}}");
        let policy_meta: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let new = NewAsset { policy_meta, ..new_asset(content.content_hash, by) };
        let made = assets.create_asset(&new).await.expect("an asset is made");
        let read = assets.asset(new.version_id).await.expect("an answer").expect("the asset");
        for asset in [made, read] {
            assert_eq!(asset.policy_meta.to_string(), text);
        }
    }
}

async fn one_content_may_have_many_assets<S: ApiKeys + ContentIndex>(assets: &dyn Assets, store: &S) {
    let first = asset_in(assets, store).await;
    let other = producer(store).await;
    let second = assets.create_asset(&new_asset(first.content_hash, other)).await.expect("an asset is made");
    assert_ne!(first.version_id, second.version_id);
    assert_eq!(assets.asset(first.version_id).await.expect("an answer"), Some(first));
}
