//! Forgetting a payer: nothing of the receipt is left, and the accounts are as they were.

use std::time::Duration;

use super::{
    Store,
    scene::{Scene, limited, unlimited},
};
use crate::{
    ids::{ReceiptId, SessionId},
    model::{ClientMark, Credit, ReceiptStatus, UsageRow},
    ports::{AuditDifference, ErasureStep, NewReceipt, SettleBatch},
};

pub(super) async fn run(store: &Store) {
    rows_move_step_by_step_and_windows_agree_in_between(store).await;
    a_receipt_in_use_is_left_alone(store).await;
    a_receipt_that_a_clock_expired_too_early_is_left_alone(store).await;
    usage_that_was_set_aside_is_forgotten_too(store).await;
}

/// The whole audit: the windows, and the differences.
async fn audit(store: &Store) -> (u64, Vec<AuditDifference>) {
    let (mut windows, mut differences, mut after) = (0, Vec::new(), None);
    loop {
        let page = store.audit(after, 100).await.expect("a page");
        windows += page.windows;
        differences.extend(page.differences);
        after = page.next;
        if after.is_none() {
            return (windows, differences);
        }
    }
}

async fn set_status(store: &Store, receipt: ReceiptId, status: ReceiptStatus, scene: &Scene) {
    store.set_receipt_status(receipt, status, scene.now).await.expect("changed");
}

async fn rows_move_step_by_step_and_windows_agree_in_between(store: &Store) {
    let scene = Scene::new(store, unlimited()).await;
    let other = Scene { receipt: scene.another_receipt().await, ..scene.clone() };
    let later = Scene { now: scene.now + Duration::from_secs(3600), ..scene.clone() };
    let node = scene.node().await;
    let named = |row: UsageRow| UsageRow {
        session_id: Some(SessionId::random()),
        client: Some(ClientMark::from_bytes(*b"a client")),
        lease_epoch: None,
        ..row
    };
    let rows = [1, 2, 3].map(|bytes| named(scene.row(node, bytes))).into_iter();
    let rows = rows.chain([4, 5].map(|bytes| named(later.row(node, bytes)))).collect();
    scene.settle(node, 1, rows, vec![]).await;
    let kept = named(other.row(node, 100));
    scene.settle(node, 2, vec![kept.clone()], vec![]).await;
    set_status(store, scene.receipt, ReceiptStatus::Refunded, &scene).await;
    let before = audit(store).await;

    for moved in [2, 2] {
        assert_eq!(store.erase(scene.receipt, 2).await.expect("a step"), ErasureStep::More(moved));
        assert_eq!(audit(store).await.1, before.1, "windows equal their rows between two steps");
        assert!(store.receipt(scene.receipt).await.expect("read").is_some(), "there is more to move");
    }
    assert_eq!(store.erase(scene.receipt, 2).await.expect("a step"), ErasureStep::Done(1));
    assert_eq!(audit(store).await, before, "other windows stand for the same rows");
    assert_eq!(store.receipt(scene.receipt).await.expect("read"), None);
    assert!(store.usage(scene.receipt, None, 10).await.expect("usage").items.is_empty());
    assert!(store.quota(scene.receipt, scene.now).await.expect("read").is_none());
    assert_eq!(store.usage(other.receipt, None, 10).await.expect("usage").items, [kept], "no other receipt is touched");

    // Again, and of a receipt that never was.
    for receipt in [scene.receipt, ReceiptId::random()] {
        assert_eq!(store.erase(receipt, 2).await.expect("a step"), ErasureStep::Done(0));
    }
    assert_eq!(audit(store).await, before);
}

async fn a_receipt_in_use_is_left_alone(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(100, 1)).await;
    let row = scene.row(node, 10);
    scene.settle(node, 1, vec![row.clone()], vec![]).await;
    assert_eq!(store.erase(scene.receipt, 10).await.expect("a step"), ErasureStep::Open);
    set_status(store, scene.receipt, ReceiptStatus::Consumed, &scene).await;
    assert_eq!(store.erase(scene.receipt, 10).await.expect("a step"), ErasureStep::Leased);
    assert_eq!(store.usage(scene.receipt, None, 10).await.expect("usage").items, [row]);

    scene.settle(node, 2, vec![], vec![scene.release(node, Credit::new(90, 0))]).await;
    assert_eq!(store.erase(scene.receipt, 10).await.expect("a step"), ErasureStep::Done(1));
    // A row that comes later, from an instance that was away, has no receipt.
    let batch = SettleBatch { node, sequence: 3, rows: vec![scene.row(node, 5)], releases: vec![] };
    assert!(store.settle(&batch).await.is_err());
}

async fn a_receipt_that_a_clock_expired_too_early_is_left_alone(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let far = scene.now + Duration::from_secs(10 * 365 * 86_400);
    let receipt = NewReceipt { expires_at: far, ..scene.new_receipt() };
    let receipt = store.create_receipt(&receipt).await.expect("a receipt").receipt_id;
    while store.expire_receipts(far, 100).await.expect("expired") > 0 {}
    assert_eq!(store.erase(receipt, 10).await.expect("a step"), ErasureStep::Open);
    while store.restore_receipts(scene.now, 100).await.expect("restored") > 0 {}
    set_status(store, receipt, ReceiptStatus::Expired, &scene).await;
    assert_eq!(store.erase(receipt, 10).await.expect("a step"), ErasureStep::Done(0), "a producer ended it");
}

async fn usage_that_was_set_aside_is_forgotten_too(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let receipt = ReceiptId::random();
    let row = UsageRow { receipt_id: receipt, session_id: Some(SessionId::random()), ..scene.row(node, 7) };
    store.set_aside(node.node, &row, "its receipt is gone").await.expect("set aside");
    let kept = store.set_aside_under(receipt, 10).await.expect("read");
    assert_eq!(kept.iter().map(|kept| &kept.row).collect::<Vec<_>>(), [&row]);
    assert_eq!(store.erase(receipt, 10).await.expect("a step"), ErasureStep::Done(0));
    assert!(store.set_aside_under(receipt, 10).await.expect("read").is_empty());
    let mut all = store.usage_set_aside(None, 10_000).await.expect("read").into_iter();
    let kept = all.find(|kept| kept.row.usage_id == row.usage_id).expect("the bytes are not forgotten").row;
    assert_eq!((kept.session_id, kept.bytes_sent), (None, 7));
    assert!(kept.receipt_id != receipt && kept.started_at <= row.started_at);
}
