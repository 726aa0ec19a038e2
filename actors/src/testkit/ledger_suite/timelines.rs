//! Timelines: what happens at the end of one to leases and epochs, and to usage that can never be settled.

use super::{
    Store,
    scene::{Scene, limited, reclaim},
};
use crate::{
    ids::ReceiptId,
    model::{Credit, LostLease},
    ports::PortError,
};

pub(super) async fn run(store: &Store) {
    a_timeline_lasts_until_the_next_one_and_concurrent_nodes_begin_the_same_one(store).await;
    what_was_leased_in_a_history_that_ended_is_released(store).await;
    usage_that_was_set_aside_is_kept_once_and_in_no_window(store).await;
}

const NOTHING: Credit = Credit::ZERO;

async fn a_timeline_lasts_until_the_next_one_and_concurrent_nodes_begin_the_same_one(store: &Store) {
    let first = store.timeline().await.expect("answered");
    assert!(!first.moved, "this database was not restored");
    assert_eq!(store.timeline().await.expect("answered"), first);
    let begun = (0..4).map(|_| {
        let store = Store::clone(store);
        tokio::spawn(async move { store.begin_timeline(first.timeline_id, "a test").await.expect("begun").timeline_id })
    });
    let mut ids = Vec::new();
    for begun in begun.collect::<Vec<_>>() {
        ids.push(begun.await.expect("no panic"));
    }
    let now = store.timeline().await.expect("answered");
    assert!(ids.iter().all(|&id| id == now.timeline_id && id != first.timeline_id), "{ids:?} and {now:?}");
}

async fn what_was_leased_in_a_history_that_ended_is_released(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    scene.reclaim(LostLease::Release).await;
    let (node, lost) = (scene.node().await, scene.node().await);
    scene.lease(node, Credit::new(300, 3)).await;
    scene.lease(lost, Credit::new(200, 2)).await;
    // One of them was lost before, and its lease is not reclaimed yet.
    scene.dies(lost).await;
    let after = store.timeline().await.expect("answered").timeline_id;
    let new = store.begin_timeline(after, "a test").await.expect("begun");
    assert!(new.leases >= 2 && new.bytes >= 500, "{new:?}");
    assert!(matches!(store.heartbeat(node, std::time::Duration::from_secs(60)).await, Err(PortError::Fenced)));
    let want = scene.want(NOTHING, Credit::new(1, 1));
    assert!(matches!(scene.refill(node, want).await, Err(PortError::Fenced)));
    let mut spared = 0;
    loop {
        let step = reclaim(store, LostLease::Charge, scene.now, 100).await;
        assert_eq!(step.leases, step.spared_leases, "nothing is charged: {step:?}");
        spared += step.spared_leases;
        if !step.more {
            break;
        }
    }
    assert!(spared >= 2, "{spared}");
    scene.assert_windows(NOTHING, NOTHING).await;
    assert_eq!(store.usage(scene.receipt, None, 10).await.expect("usage").items, []);
    // The bytes sent under the old epoch are charged, and no more.
    scene.settle(node, 1, vec![scene.row(node, 40)], vec![]).await;
    scene.assert_windows(Credit::new(40, 1), NOTHING).await;
    scene.lease(scene.restarted(node).await, Credit::new(900, 9)).await;
}

async fn usage_that_was_set_aside_is_kept_once_and_in_no_window(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let mut row = scene.row(node, 70);
    row.receipt_id = ReceiptId::random();
    for _ in 0..2 {
        store.set_aside(node.node, &row, "its receipt is gone").await.expect("kept");
    }
    let page = store.usage_set_aside(None, 1000).await.expect("read");
    let kept: Vec<_> = page.iter().filter(|kept| kept.row.usage_id == row.usage_id).collect();
    let [kept] = kept.as_slice() else { panic!("it is kept once: {kept:?}") };
    assert_eq!((&kept.row, kept.node, kept.reason.as_str()), (&row, node.node, "its receipt is gone"));
    assert_eq!(store.usage_set_aside(Some(row.usage_id), 1000).await.expect("read"), []);
    scene.assert_windows(NOTHING, NOTHING).await;
}
