//! Receipts and policies.

use std::time::Duration;

use futures::future::join_all;

use super::{
    Store,
    scene::{PRICE_SATOSHIS, Scene, limited},
};
use crate::{
    ids::{ReceiptId, VersionId},
    model::{QuotaPolicy, ReceiptStatus, WindowKind, WindowUsage},
    ports::{Missing, NewReceipt, PortError, StatusChange},
};

pub(super) async fn run(store: &Store) {
    a_receipt_is_for_the_assets_content_at_its_price(store).await;
    a_receipt_that_is_made_twice_is_made_once(store).await;
    a_receipt_for_what_does_not_exist_names_it(store).await;
    the_status_changes_only_as_the_rule_allows(store).await;
    one_change_made_by_many_at_once_counts_once(store).await;
    a_policy_comes_back_as_it_was_put(store).await;
    the_first_tiers_are_there(store).await;
    quotas_of_an_unused_receipt_are_empty(store).await;
}

async fn a_receipt_is_for_the_assets_content_at_its_price(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let new = scene.new_receipt();
    let made = store.create_receipt(&new).await.expect("a receipt");
    assert_eq!(made.content_hash, scene.content);
    assert_eq!(made.total_satoshis, PRICE_SATOSHIS);
    assert_eq!((made.status, made.expires_at, made.created_at), (new.status, new.expires_at, new.created_at));
    assert_eq!(made.quota_tier, new.quota_tier);
    assert_eq!(store.receipt(new.receipt_id).await.expect("read"), Some(made));
    assert_eq!(store.receipt(ReceiptId::random()).await.expect("read"), None);
}

async fn a_receipt_that_is_made_twice_is_made_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let new = scene.new_receipt();
    let first = store.create_receipt(&new).await.expect("a receipt");
    assert!(store.set_price(scene.version, PRICE_SATOSHIS + 1, None, scene.now).await.expect("priced"));
    assert_eq!(store.create_receipt(&new).await.expect("the same receipt"), first);
    let later = store.create_receipt(&scene.new_receipt()).await.expect("another receipt");
    assert_eq!(later.total_satoshis, PRICE_SATOSHIS + 1, "a receipt has the asset's price at the time it is made");
}

async fn a_receipt_for_what_does_not_exist_names_it(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let no_asset = NewReceipt { version_id: VersionId::next(), ..scene.new_receipt() };
    let no_tier = NewReceipt { quota_tier: "no such tier".into(), ..scene.new_receipt() };
    assert!(matches!(store.create_receipt(&no_asset).await, Err(PortError::NotFound(Missing::Asset))));
    assert!(matches!(store.create_receipt(&no_tier).await, Err(PortError::NotFound(Missing::QuotaTier))));
    assert_eq!(store.receipt(no_tier.receipt_id).await.expect("read"), None);
}

async fn the_status_changes_only_as_the_rule_allows(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    for from in ReceiptStatus::ALL {
        for to in ReceiptStatus::ALL {
            let new = NewReceipt { status: from, ..scene.new_receipt() };
            let made = store.create_receipt(&new).await.expect("a receipt");
            let change = store.set_receipt_status(new.receipt_id, to, scene.now).await.expect("answered");
            let after = store.receipt(new.receipt_id).await.expect("read").expect("there");
            match change {
                StatusChange::Changed(receipt) => {
                    assert!(from.may_become(to), "{from} to {to}");
                    assert_eq!(receipt.status, to);
                    assert_eq!(receipt.epoch, made.epoch + i64::from(from != to), "{from} to {to}");
                    assert_eq!(after, receipt);
                }
                StatusChange::Refused(status) => {
                    assert!(!from.may_become(to), "{from} to {to}");
                    assert_eq!(status, from);
                    assert_eq!(after, made);
                }
                StatusChange::NotFound => panic!("the receipt is there"),
            }
        }
    }
    let nobody = store.set_receipt_status(ReceiptId::random(), ReceiptStatus::Refunded, scene.now).await;
    assert_eq!(nobody.expect("answered"), StatusChange::NotFound);
}

async fn one_change_made_by_many_at_once_counts_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let before = store.receipt(scene.receipt).await.expect("read").expect("there");
    let changes = join_all((0..8).map(|_| {
        let scene = scene.clone();
        tokio::spawn(async move {
            scene.store.set_receipt_status(scene.receipt, ReceiptStatus::Refunded, scene.now).await.expect("answered")
        })
    }))
    .await;
    for change in changes {
        let StatusChange::Changed(receipt) = change.expect("no panic") else { panic!("the change is allowed") };
        assert_eq!(receipt.status, ReceiptStatus::Refunded);
        assert_eq!(receipt.epoch, before.epoch + 1);
    }
}

async fn a_policy_comes_back_as_it_was_put(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let full = QuotaPolicy {
        description: Some("all there is".into()),
        max_concurrent_streams: Some(3),
        max_bandwidth_mbps: Some(2.5),
        burst_bytes_allowance: Some(7),
        burst_duration_minutes: Some(8),
        max_file_size_bytes: Some(9),
        allowed_content_types: Some(vec!["video/*".into(), "text/plain".into()]),
        ..limited(1 << 40, 12)
    };
    let sparse = QuotaPolicy { bytes_per_day: Some(5), policy_name: full.policy_name.clone(), ..Default::default() };
    for (policy, is_new) in [(&full, true), (&sparse, false), (&full, false)] {
        assert_eq!(store.put_quota_policy(policy, scene.now).await.expect("put"), is_new);
        let all = store.policies().await.expect("policies");
        assert!(all.is_sorted_by(|a, b| a.policy_name < b.policy_name));
        assert_eq!(all.iter().find(|one| one.policy_name == policy.policy_name), Some(policy));
    }
}

async fn the_first_tiers_are_there(store: &Store) {
    let all = store.policies().await.expect("policies");
    let tier =
        |name: &str| all.iter().find(|policy| policy.policy_name == name).expect("a tier of the first migration");
    let gib = 1_u64 << 30;
    for (name, gibs, requests, streams, mbps) in
        [("standard", 1, 100, 1, 10.0), ("premium", 5, 500, 5, 50.0), ("enterprise", 20, 2000, 20, 200.0)]
    {
        let tier = tier(name);
        assert_eq!(tier.bytes_per_hour, Some(gibs * gib));
        assert_eq!(tier.bytes_per_day, Some(10 * gibs * gib));
        assert_eq!(tier.bytes_per_month, Some(100 * gibs * gib));
        assert_eq!(tier.requests_per_hour, Some(requests));
        assert_eq!(tier.requests_per_day, Some(10 * requests));
        assert_eq!(tier.requests_per_month, Some(100 * requests));
        assert_eq!(tier.max_concurrent_streams, Some(streams));
        assert_eq!(tier.max_bandwidth_mbps, Some(mbps));
    }
    assert!(!tier("unlimited").is_metered());
    assert_eq!(tier("unlimited").max_concurrent_streams, None);
}

async fn quotas_of_an_unused_receipt_are_empty(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let quota = store.quota(scene.receipt, scene.now).await.expect("read").expect("there");
    assert_eq!(quota.policy, scene.policy);
    assert_eq!(quota.windows, WindowKind::ALL.map(|kind| WindowUsage::empty(kind.window(scene.now))));
    assert_eq!(store.quota(ReceiptId::random(), scene.now).await.expect("read"), None);
    let next_month = scene.now + Duration::from_secs(32 * 86_400);
    let later = store.quota(scene.receipt, next_month).await.expect("read").expect("there");
    assert_eq!(later.windows, WindowKind::ALL.map(|kind| WindowUsage::empty(kind.window(next_month))));
}
