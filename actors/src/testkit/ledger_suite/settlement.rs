//! Settlement: usage counts exactly once, and leases and windows change with it.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    Store,
    scene::{Scene, limited, unlimited},
};
use crate::{
    ids::{NodeId, ReceiptId, SessionId},
    model::{ClientMark, Credit, NodeEpoch, Outcome, UsageRow, WindowKind},
    ports::{PortError, Release, SettleBatch},
};

pub(super) async fn run(store: &Store) {
    usage_moves_from_reserved_to_used(store).await;
    a_batch_that_is_sent_twice_counts_once(store).await;
    a_row_that_comes_again_in_a_later_batch_counts_once(store).await;
    one_batch_sent_by_many_at_once_counts_once(store).await;
    the_rows_of_a_batch_add_up(store).await;
    what_is_released_can_be_leased_again(store).await;
    a_release_never_gives_back_more_than_the_lease(store).await;
    an_unknown_receipt_rejects_the_whole_batch(store).await;
    usage_without_a_lease_only_counts(store).await;
    a_node_that_the_ledger_does_not_know_settles_once(store).await;
    rows_count_in_the_windows_of_their_start(store).await;
    rows_of_every_outcome_count_and_come_back_as_such(store).await;
    rows_of_an_earlier_epoch_are_taken_off_its_lease(store).await;
    batches_for_the_same_receipts_in_any_order_all_count(store).await;
}

const NOTHING: Credit = Credit::ZERO;

async fn usage_moves_from_reserved_to_used(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(500, 5)).await;
    assert_eq!(scene.settle(node, 1, vec![scene.row(node, 200)], vec![]).await, 1);
    scene.assert_windows(Credit::new(200, 1), Credit::new(300, 4)).await;
    assert_eq!(scene.settle(node, 2, vec![scene.row(node, 300)], vec![]).await, 1);
    scene.assert_windows(Credit::new(500, 2), Credit::new(0, 3)).await;
}

async fn a_batch_that_is_sent_twice_counts_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(500, 5)).await;
    let (rows, releases) = (vec![scene.row(node, 200)], vec![scene.release(node, Credit::new(100, 1))]);
    assert_eq!(scene.settle(node, 7, rows.clone(), releases.clone()).await, 1);
    for sequence in [7, 6] {
        assert_eq!(scene.settle(node, sequence, rows.clone(), releases.clone()).await, 0);
    }
    scene.assert_windows(Credit::new(200, 1), Credit::new(200, 3)).await;
}

async fn a_row_that_comes_again_in_a_later_batch_counts_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(500, 5)).await;
    let again = scene.row(node, 200);
    assert_eq!(scene.settle(node, 1, vec![again.clone()], vec![]).await, 1);
    assert_eq!(scene.settle(node, 2, vec![again.clone(), scene.row(node, 50)], vec![]).await, 1);
    assert_eq!(scene.settle(node, 3, vec![again], vec![]).await, 0);
    scene.assert_windows(Credit::new(250, 2), Credit::new(250, 3)).await;
}

async fn one_batch_sent_by_many_at_once_counts_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(500, 5)).await;
    let batch = SettleBatch {
        node,
        sequence: 1,
        rows: vec![scene.row(node, 10), scene.row(node, 20)],
        releases: vec![scene.release(node, Credit::new(100, 1))],
    };
    let callers = (0..8).map(|_| {
        let (store, batch) = (store.clone(), batch.clone());
        tokio::spawn(async move { store.settle(&batch).await.expect("settled").inserted })
    });
    let inserted: u64 = join_all(callers).await.into_iter().map(|caller| caller.expect("no panic")).sum();
    assert_eq!(inserted, 2);
    scene.assert_windows(Credit::new(30, 2), Credit::new(370, 2)).await;
}

async fn the_rows_of_a_batch_add_up(store: &Store) {
    let scene = Scene::new(store, limited(100_000, 100)).await;
    let other = Scene { receipt: scene.another_receipt().await, ..scene.clone() };
    let node = scene.node().await;
    scene.lease(node, Credit::new(10_000, 50)).await;
    other.lease(node, Credit::new(10_000, 50)).await;
    let rows: Vec<UsageRow> =
        (1..=20).map(|bytes| if bytes % 2 == 0 { scene.row(node, bytes) } else { other.row(node, bytes) }).collect();
    assert_eq!(scene.settle(node, 1, rows, vec![]).await, 20);
    scene.assert_windows(Credit::new(110, 10), Credit::new(9890, 40)).await;
    other.assert_windows(Credit::new(100, 10), Credit::new(9900, 40)).await;
}

async fn what_is_released_can_be_leased_again(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let (one, other) = (scene.node().await, scene.node().await);
    scene.lease(one, Credit::new(1000, 10)).await;
    let releases = vec![scene.release(one, Credit::new(500, 4)), scene.release(one, Credit::new(200, 2))];
    assert_eq!(scene.settle(one, 1, vec![scene.row(one, 100)], releases).await, 1);
    scene.assert_windows(Credit::new(100, 1), Credit::new(200, 3)).await;
    scene.lease(other, Credit::new(700, 6)).await;
    scene.assert_windows(Credit::new(100, 1), Credit::new(900, 9)).await;
}

async fn a_release_never_gives_back_more_than_the_lease(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let (one, other) = (scene.node().await, scene.node().await);
    scene.lease(one, Credit::new(300, 3)).await;
    scene.lease(other, Credit::new(300, 3)).await;
    scene.settle(one, 1, vec![scene.row(one, 100)], vec![scene.release(one, Credit::new(900, 9))]).await;
    scene.assert_windows(Credit::new(100, 1), Credit::new(300, 3)).await;
    let unknown = Release { receipt_id: ReceiptId::random(), ..scene.release(one, Credit::new(1, 1)) };
    let other_hour =
        Release { window: scene.now - Duration::from_secs(7200), ..scene.release(other, Credit::new(1, 1)) };
    let other_epoch = Release { epoch: 99, ..scene.release(other, Credit::new(1, 1)) };
    scene.settle(other, 1, vec![], vec![unknown, other_hour, other_epoch]).await;
    scene.assert_windows(Credit::new(100, 1), Credit::new(300, 3)).await;
    scene.settle(other, 2, vec![], vec![scene.release(other, Credit::new(300, 3))]).await;
    scene.assert_windows(Credit::new(100, 1), NOTHING).await;
}

async fn an_unknown_receipt_rejects_the_whole_batch(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(500, 5)).await;
    let good = scene.row(node, 100);
    let bad = UsageRow { receipt_id: ReceiptId::random(), ..scene.row(node, 100) };
    let batch = SettleBatch {
        node,
        sequence: 1,
        rows: vec![good.clone(), bad],
        releases: vec![scene.release(node, Credit::new(100, 1))],
    };
    assert!(matches!(store.settle(&batch).await, Err(PortError::Rejected { .. })));
    scene.assert_windows(NOTHING, Credit::new(500, 5)).await;
    assert_eq!(store.usage(scene.receipt, None, 10).await.expect("usage").items, []);
    assert_eq!(scene.settle(node, 1, vec![good], vec![]).await, 1, "the sequence was not used up");
    scene.assert_windows(Credit::new(100, 1), Credit::new(400, 4)).await;
}

async fn usage_without_a_lease_only_counts(store: &Store) {
    let scene = Scene::new(store, unlimited()).await;
    let node = scene.node().await;
    let row = UsageRow { lease_epoch: None, ..scene.row(node, 1 << 40) };
    assert_eq!(scene.settle(node, 1, vec![row], vec![]).await, 1);
    scene.assert_windows(Credit::new(1 << 40, 1), NOTHING).await;
    // A row whose lease is gone, as after a reclaim that released it, is settled as it is.
    assert_eq!(scene.settle(node, 2, vec![scene.row(node, 5)], vec![]).await, 1);
    scene.assert_windows(Credit::new((1 << 40) + 5, 2), NOTHING).await;
}

async fn a_node_that_the_ledger_does_not_know_settles_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let unknown = NodeEpoch { node: NodeId::random(), epoch: 3 };
    let rows = vec![scene.row(unknown, 100)];
    assert_eq!(scene.settle(unknown, 5, rows.clone(), vec![]).await, 1);
    assert_eq!(scene.settle(unknown, 5, rows, vec![]).await, 0);
    scene.assert_windows(Credit::new(100, 1), NOTHING).await;
    let back = store.heartbeat(unknown, Duration::from_secs(60)).await;
    assert!(matches!(back, Err(PortError::Fenced)), "it has no leases left");
    store.heartbeat(NodeEpoch { epoch: 4, ..unknown }, Duration::from_secs(60)).await.expect("under a new epoch");
}

async fn rows_count_in_the_windows_of_their_start(store: &Store) {
    let mut scene = Scene::new(store, limited(10_000, 100)).await;
    let node = scene.node().await;
    // The last hour of the month, and the first of the next: every window rolls over.
    let month = WindowKind::Month.window(scene.now);
    let (last, first): (Timestamp, Timestamp) = (month.end - Duration::from_micros(1), month.end);
    scene.now = last;
    scene.lease(node, Credit::new(1000, 10)).await;
    let client = Some(ClientMark::from_bytes(*b"a client"));
    let before = UsageRow { session_id: Some(SessionId::random()), client, ..scene.row(node, 100) };
    scene.now = first;
    scene.lease(node, Credit::new(2000, 20)).await;
    let after = UsageRow { outcome: Outcome::Aborted, ..scene.row(node, 30) };
    assert_eq!(scene.settle(node, 1, vec![after.clone(), before.clone()], vec![]).await, 2);
    scene.assert_windows(Credit::new(30, 1), Credit::new(1970, 19)).await;
    scene.now = last;
    scene.assert_windows(Credit::new(100, 1), Credit::new(900, 9)).await;
    let page = store.usage(scene.receipt, None, 10).await.expect("usage");
    assert_eq!(page.items, [before, after], "rows come back as they were settled, in the order of their ids");
}

async fn rows_of_every_outcome_count_and_come_back_as_such(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(600, 6)).await;
    let rows = Outcome::ALL.map(|outcome| UsageRow { outcome, ..scene.row(node, 100) });
    assert_eq!(scene.settle(node, 1, rows.to_vec(), vec![]).await, 6);
    scene.assert_windows(Credit::new(600, 6), NOTHING).await;
    assert_eq!(store.usage(scene.receipt, None, 10).await.expect("usage").items, rows);
}

async fn rows_of_an_earlier_epoch_are_taken_off_its_lease(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let first = scene.node().await;
    scene.lease(first, Credit::new(400, 4)).await;
    let replayed = scene.row(first, 100);
    let second = scene.restarted(first).await;
    scene.lease(second, Credit::new(300, 3)).await;
    let releases = vec![scene.release(first, Credit::new(50, 1)), scene.release(second, Credit::new(30, 1))];
    assert_eq!(scene.settle(second, 1, vec![replayed, scene.row(second, 10)], releases).await, 2);
    scene.assert_windows(Credit::new(110, 2), Credit::new(250 + 260, 2 + 1)).await;
}

async fn batches_for_the_same_receipts_in_any_order_all_count(store: &Store) {
    let scene = Scene::new(store, limited(1 << 40, 1 << 20)).await;
    let mut receipts = Vec::new();
    for _ in 0..12 {
        receipts.push(scene.another_receipt().await);
    }
    let mut callers = Vec::new();
    for number in 0..6 {
        let (scene, mut receipts, node) = (scene.clone(), receipts.clone(), scene.node().await);
        callers.push(tokio::spawn(async move {
            for turn in 1..=4 {
                receipts.rotate_left(number);
                receipts.reverse();
                let on = |receipt| Scene { receipt, ..scene.clone() };
                for &receipt in &receipts {
                    on(receipt).lease(node, Credit::new(10, 1)).await;
                }
                // Neighbouring hours, so that batches share days and months but only some of their hours.
                let rows = receipts
                    .iter()
                    .flat_map(|&receipt| {
                        let row = on(receipt).row(node, 3);
                        let hours = u64::try_from(number).unwrap_or_default() % 2;
                        let earlier = row.started_at - Duration::from_secs(3600 * hours);
                        [UsageRow { started_at: earlier, ..on(receipt).row(node, 3) }, row]
                    })
                    .collect();
                let releases = receipts.iter().map(|&receipt| on(receipt).release(node, Credit::new(1, 0))).collect();
                assert_eq!(scene.settle(node, turn, rows, releases).await, 24);
            }
        }));
    }
    for caller in join_all(callers).await {
        caller.expect("no panic");
    }
    for receipt in receipts {
        let scene = Scene { receipt, ..scene.clone() };
        let month = scene.windows().await[WindowKind::Month.index()];
        // The first hour of a month has its neighbour in the month before.
        let in_month = if month.window.contains(scene.now - Duration::from_secs(3600)) { 48 } else { 36 };
        assert_eq!(month.used, Credit::new(3 * in_month, in_month));
        scene.assert_audited().await;
    }
}
