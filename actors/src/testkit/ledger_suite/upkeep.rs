//! Housekeeping: usage pages, expiry, pruning, the audit.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Store,
    scene::{Scene, limited},
};
use crate::{
    ids::{NodeId, ReceiptId},
    model::{Credit, LostLease, NodeEpoch, Receipt, ReceiptStatus, UsageRow, WindowKind},
    ports::{NewReceipt, PortError, StatusChange},
};

pub(super) async fn run(store: &Store) {
    store.ping().await.expect("an answer");
    usage_comes_in_pages(store).await;
    open_receipts_past_their_time_expire(store).await;
    receipts_that_a_wrong_clock_expired_come_back_as_they_were(store).await;
    old_windows_go_with_their_rows(store).await;
    windows_with_reserved_credit_stay(store).await;
    fenced_epochs_without_leases_are_forgotten(store).await;
    preparing_twice_makes_nothing_new(store).await;
    an_audit_visits_every_receipt_once(store).await;
}

/// More rows than any bounded step of these scenarios leaves.
const ALL: u32 = 10_000;

async fn usage_comes_in_pages(store: &Store) {
    let scene = Scene::new(store, limited(100_000, 1000)).await;
    let node = scene.node().await;
    let rows: Vec<UsageRow> = (1..=7).map(|bytes| scene.row(node, bytes)).collect();
    scene.settle(node, 1, rows.clone(), vec![]).await;
    let (mut read, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.usage(scene.receipt, after, 3).await.expect("a page");
        assert!(page.items.len() <= 3);
        after = page.items.last().map(|row| row.usage_id);
        read.extend(page.items);
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!((read, pages), (rows, 3));
    let page = store.usage(ReceiptId::random(), None, 3).await.expect("a page");
    assert!(page.items.is_empty() && !page.more);
}

async fn open_receipts_past_their_time_expire(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let mut receipts = Vec::new();
    for status in ReceiptStatus::ALL {
        let new = NewReceipt { status, expires_at: scene.now, ..scene.new_receipt() };
        receipts.push(store.create_receipt(&new).await.expect("a receipt"));
    }
    assert_eq!(store.expire_receipts(scene.now, 1).await.expect("expired"), 1, "as many as allowed");
    while store.expire_receipts(scene.now, 100).await.expect("expired") > 0 {}
    for before in receipts {
        let after = store.receipt(before.receipt_id).await.expect("read").expect("there");
        let expires = before.status != ReceiptStatus::Expired && before.status_at(scene.now) == ReceiptStatus::Expired;
        assert_eq!(after.status, before.status_at(scene.now));
        assert_eq!(after.epoch, before.epoch + i64::from(expires), "{}", before.status);
    }
    let open = store.receipt(scene.receipt).await.expect("read").expect("there");
    assert_eq!(open.status, ReceiptStatus::Confirmed);
    let late = store.set_receipt_status(scene.receipt, ReceiptStatus::Expired, scene.now).await.expect("answered");
    assert!(matches!(late, StatusChange::Changed(receipt) if receipt.status == ReceiptStatus::Expired));
}

async fn receipts_that_a_wrong_clock_expired_come_back_as_they_were(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    // Soon, so that receipts of other scenarios stay as they are.
    let expires_at = scene.now + Duration::from_secs(1800);
    let mut receipts = Vec::new();
    for status in ReceiptStatus::ALL {
        let new = NewReceipt { status, expires_at, ..scene.new_receipt() };
        receipts.push(store.create_receipt(&new).await.expect("a receipt"));
    }
    let early = NewReceipt { expires_at: scene.now, ..scene.new_receipt() };
    let early = store.create_receipt(&early).await.expect("a receipt");
    // A producer ends one by hand: no clock did that.
    let ended = store.create_receipt(&NewReceipt { expires_at, ..scene.new_receipt() }).await.expect("a receipt");
    let by_hand = store.set_receipt_status(ended.receipt_id, ReceiptStatus::Expired, scene.now).await;
    assert!(matches!(by_hand, Ok(StatusChange::Changed(_))));

    let ahead = scene.now + Duration::from_secs(3600);
    while store.expire_receipts(ahead, 100).await.expect("expired") > 0 {}
    let open = |receipt: &Receipt| receipt.status_at(ahead) != receipt.status;
    for before in &receipts {
        let wrong = store.receipt(before.receipt_id).await.expect("read").expect("there");
        assert_eq!(wrong.status, before.status_at(ahead));
    }
    let expected = receipts.iter().filter(|receipt| open(receipt)).count() as u64;
    let mut restored = store.restore_receipts(scene.now, 1).await.expect("restored");
    assert_eq!(restored, 1, "as many as allowed");
    loop {
        match store.restore_receipts(scene.now, 100).await.expect("restored") {
            0 => break,
            more => restored += more,
        }
    }
    assert!(restored >= expected, "{restored} of {expected}");
    for before in &receipts {
        let after = store.receipt(before.receipt_id).await.expect("read").expect("there");
        assert_eq!(after.status, before.status);
        assert_eq!(
            after.epoch,
            before.epoch + if open(before) { 2 } else { 0 },
            "each change counts, {}",
            before.status
        );
    }
    for expired in [early, ended] {
        let after = store.receipt(expired.receipt_id).await.expect("read").expect("there");
        assert_eq!(after.status, ReceiptStatus::Expired);
    }
}

/// A moment in a month that no other scenario touches.
fn long_ago() -> Timestamp {
    "2001-02-28T23:30:00Z".parse().expect("a time")
}

async fn old_windows_go_with_their_rows(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let old = Scene { now: long_ago(), ..scene.clone() };
    let node = scene.node().await;
    old.settle(node, 1, vec![old.row(node, 10), old.row(node, 20)], vec![]).await;
    scene.settle(node, 2, vec![scene.row(node, 5)], vec![]).await;
    // The hour, the day and the month end together.
    let end = WindowKind::Month.window(old.now).end;
    assert_eq!(store.prune_windows(end, ALL).await.expect("pruned"), 0, "they end only at the end of the month");
    let after = end + Duration::from_secs(1);
    assert_eq!(store.prune_windows(after, 2).await.expect("pruned"), 2, "as many as allowed");
    assert_eq!(store.prune_windows(after, ALL).await.expect("pruned"), 1);
    assert_eq!(store.prune_windows(after, ALL).await.expect("pruned"), 0);
    drop_months(store, after).await;
    let page = store.usage(scene.receipt, None, 10).await.expect("usage");
    assert_eq!(page.items.len(), 1, "the rows of the old month are gone");
    assert_eq!(page.items[0].bytes_sent, 5);
    old.assert_windows(Credit::ZERO, Credit::ZERO).await;
    scene.assert_windows(Credit::new(5, 1), Credit::ZERO).await;
}

/// Removes old months whole, where the database has partitions.
async fn drop_months(store: &Store, before: Timestamp) {
    // Makes the partition of a month whose rows came without one.
    store.prepare(before, 1).await.expect("prepared");
    while store.drop_usage(before).await.expect("dropped") > 0 {}
}

async fn windows_with_reserved_credit_stay(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let old = Scene { now: long_ago(), ..scene.clone() };
    let node = scene.node().await;
    old.lease(node, Credit::new(100, 1)).await;
    let after = WindowKind::Month.window(old.now).end + Duration::from_secs(1);
    assert_eq!(store.prune_windows(after, ALL).await.expect("pruned"), 0);
    old.assert_windows(Credit::ZERO, Credit::new(100, 1)).await;
    // Charged to a lost node, they may go; rows that come later are then counted as they are.
    let late = old.row(node, 40);
    scene.dies(node).await;
    scene.reclaim(LostLease::Charge).await;
    assert_eq!(store.prune_windows(after, ALL).await.expect("pruned"), 3);
    drop_months(store, after).await;
    old.settle(node, 1, vec![late], vec![]).await;
    drop_months(store, after).await;
    old.assert_windows(Credit::new(40, 1), Credit::ZERO).await;
    let page = store.usage(scene.receipt, None, 10).await.expect("usage");
    assert_eq!(page.items.len(), 1, "a month with a window keeps its rows");
    assert_eq!(store.prune_windows(after, ALL).await.expect("pruned"), 3);
}

async fn fenced_epochs_without_leases_are_forgotten(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    scene.reclaim(LostLease::Charge).await;
    let far = scene.now + Duration::from_secs(365 * 86_400);
    while store.prune_nodes(far, 100).await.expect("pruned") > 0 {}

    let alive = scene.node().await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(100, 1)).await;
    scene.dies(node).await;
    assert_eq!(store.prune_nodes(far, ALL).await.expect("pruned"), 0, "its lease is not reclaimed yet");
    scene.reclaim(LostLease::Charge).await;
    let long_before = scene.now - Duration::from_secs(365 * 86_400);
    assert_eq!(store.prune_nodes(long_before, ALL).await.expect("pruned"), 0, "it was seen since");
    assert_eq!(store.prune_nodes(far, ALL).await.expect("pruned"), 1);
    scene.assert_windows(Credit::new(100, 1), Credit::ZERO).await;
    store.heartbeat(alive, Duration::from_secs(60)).await.expect("live nodes stay");

    // Usage settled under a forgotten epoch still counts once, beside the charge, which it can no longer explain.
    scene.settle(node, 1, vec![scene.row(node, 10)], vec![]).await;
    scene.assert_windows(Credit::new(110, 2), Credit::ZERO).await;
    let stranger = NodeEpoch { node: NodeId::random(), epoch: 1 };
    let want = scene.want(Credit::ZERO, Credit::new(1, 1));
    assert!(matches!(scene.refill(stranger, want).await, Err(PortError::Fenced)));
}

async fn preparing_twice_makes_nothing_new(store: &Store) {
    let scene = Scene::new(store, limited(100_000, 1000)).await;
    let node = scene.node().await;
    // A month without a prepared partition must not lose rows, before or after it is prepared.
    let ahead = scene.now + Duration::from_secs(100 * 86_400);
    let later = Scene { now: ahead, ..scene.clone() };
    later.settle(node, 1, vec![later.row(node, 10)], vec![]).await;
    store.prepare(scene.now, 4).await.expect("prepared");
    assert_eq!(store.prepare(scene.now, 4).await.expect("prepared"), 0);
    later.settle(node, 2, vec![later.row(node, 20)], vec![]).await;
    later.assert_windows(Credit::new(30, 2), Credit::ZERO).await;
    assert_eq!(store.usage(scene.receipt, None, 10).await.expect("usage").items.len(), 2);
}

async fn an_audit_visits_every_receipt_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let mut receipts = Vec::new();
    for _ in 0..5 {
        let receipt = scene.another_receipt().await;
        Scene { receipt, ..scene.clone() }.lease(node, Credit::new(10, 1)).await;
        receipts.push(receipt);
    }
    let (mut after, mut windows) = (None, 0);
    loop {
        let page = store.audit(after, 2).await.expect("a page");
        windows += page.windows;
        assert!(!page.differences.iter().any(|difference| receipts.contains(&difference.receipt_id)));
        assert!(page.next > after || page.next.is_none(), "pages go forward");
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(windows >= 15, "three windows of each of five receipts are among {windows}");
}
