//! Lost nodes: how an epoch ends, and what becomes of its leases and of its late rows.

use std::time::Duration;

use super::{
    Store,
    scene::{Scene, limited},
};
use crate::{
    ids::NodeId,
    model::{Credit, LostLease, NodeEpoch, Outcome, UsageRow, WindowKind},
    ports::PortError,
};

pub(super) async fn run(store: &Store) {
    a_heartbeat_makes_a_node_known_and_a_later_epoch_ends_the_earlier(store).await;
    a_node_that_was_late_but_not_reclaimed_comes_back(store).await;
    leases_of_the_living_stay(store).await;
    a_lost_lease_is_charged(store).await;
    a_lost_lease_is_released(store).await;
    late_rows_explain_what_a_lost_lease_was_charged_for(store).await;
    late_rows_beyond_the_charge_count_in_full(store).await;
    late_rows_after_a_release_count_in_full(store).await;
    a_restarted_nodes_earlier_leases_are_reclaimed(store).await;
    reclaiming_is_bounded_and_says_whether_more_is_left(store).await;
    many_reclaimers_at_once_charge_once(store).await;
    leases_of_several_hours_come_off_their_own_windows(store).await;
}

const NOTHING: Credit = Credit::ZERO;
const TTL: Duration = Duration::from_secs(3600);

async fn a_heartbeat_makes_a_node_known_and_a_later_epoch_ends_the_earlier(store: &Store) {
    let anytime = "2030-01-01T00:00:00Z".parse().expect("a time");
    // Fences what others left behind, so that only this node's epochs change the count.
    store.reclaim(LostLease::Charge, anytime, 1000).await.expect("reclaimed");
    let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
    let before = store.nodes_alive().await.expect("counted");
    for _ in 0..2 {
        store.heartbeat(node, TTL).await.expect("alive");
        assert_eq!(store.nodes_alive().await.expect("counted"), before + 1);
    }
    let later = NodeEpoch { epoch: 2, ..node };
    store.heartbeat(later, TTL).await.expect("alive");
    assert!(matches!(store.heartbeat(node, TTL).await, Err(PortError::Fenced)));
    store.heartbeat(later, Duration::ZERO).await.expect("its last");
    store.reclaim(LostLease::Charge, anytime, 1000).await.expect("reclaimed");
    assert_eq!(store.nodes_alive().await.expect("counted"), before);
    assert!(matches!(store.heartbeat(later, TTL).await, Err(PortError::Fenced)));
}

async fn a_node_that_was_late_but_not_reclaimed_comes_back(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(100, 1)).await;
    scene.dies(node).await;
    store.heartbeat(node, TTL).await.expect("nobody has reclaimed it");
    scene.reclaim(LostLease::Charge).await;
    scene.assert_windows(NOTHING, Credit::new(100, 1)).await;
    scene.lease(node, Credit::new(100, 1)).await;
}

async fn leases_of_the_living_stay(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let (dead, alive) = (scene.node().await, scene.node().await);
    scene.lease(dead, Credit::new(100, 1)).await;
    scene.lease(alive, Credit::new(200, 2)).await;
    scene.dies(dead).await;
    scene.reclaim(LostLease::Release).await;
    scene.assert_windows(NOTHING, Credit::new(200, 2)).await;
}

async fn a_lost_lease_is_charged(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(300, 3)).await;
    scene.dies(node).await;
    scene.reclaim(LostLease::Charge).await;
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
    let page = store.usage(scene.receipt, None, 10).await.expect("usage");
    let [row] = page.items.as_slice() else { panic!("one row stands for the lost lease: {page:?}") };
    assert_eq!(row.outcome, Outcome::LostLease);
    assert_eq!(row.credit(), Credit::new(300, 3));
    assert_eq!(row.started_at, WindowKind::Hour.window(scene.now).start);
    assert_eq!(row.content_hash, scene.content);
    scene.reclaim(LostLease::Charge).await;
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
}

async fn a_lost_lease_is_released(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let (node, other) = (scene.node().await, scene.node().await);
    scene.lease(node, Credit::new(1000, 10)).await;
    scene.dies(node).await;
    scene.reclaim(LostLease::Release).await;
    scene.assert_windows(NOTHING, NOTHING).await;
    assert_eq!(store.usage(scene.receipt, None, 10).await.expect("usage").items, []);
    scene.lease(other, Credit::new(1000, 10)).await;
}

async fn late_rows_explain_what_a_lost_lease_was_charged_for(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(300, 3)).await;
    let late = [scene.row(node, 100), scene.row(node, 150)];
    scene.dies(node).await;
    scene.reclaim(LostLease::Charge).await;
    // A release that comes late gives nothing back: the lease was charged.
    let releases = vec![scene.release(node, Credit::new(10, 1))];
    assert_eq!(scene.settle(node, 1, late[..1].to_vec(), releases).await, 1);
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
    assert_eq!(scene.settle(node, 2, late.to_vec(), vec![]).await, 1);
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
    let rest = rest_of_the_charge(&scene).await;
    assert_eq!(rest, Some(Credit::new(50, 1)));
    assert_eq!(scene.settle(node, 3, vec![scene.row(node, 50)], vec![]).await, 1);
    assert_eq!(rest_of_the_charge(&scene).await, None, "a charge that is explained in full is gone");
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
}

async fn rest_of_the_charge(scene: &Scene) -> Option<Credit> {
    let page = scene.store.usage(scene.receipt, None, 100).await.expect("usage");
    page.items.iter().find(|row| row.outcome == Outcome::LostLease).map(UsageRow::credit)
}

async fn late_rows_beyond_the_charge_count_in_full(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(100, 3)).await;
    let rows = vec![scene.row(node, 170)];
    scene.dies(node).await;
    scene.reclaim(LostLease::Charge).await;
    assert_eq!(scene.settle(node, 1, rows, vec![]).await, 1);
    scene.assert_windows(Credit::new(170, 3), NOTHING).await;
    assert_eq!(rest_of_the_charge(&scene).await, Some(Credit::new(0, 2)));
}

async fn late_rows_after_a_release_count_in_full(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(300, 3)).await;
    let rows = vec![scene.row(node, 100)];
    scene.dies(node).await;
    scene.reclaim(LostLease::Release).await;
    assert_eq!(scene.settle(node, 1, rows, vec![scene.release(node, Credit::new(200, 2))]).await, 1);
    scene.assert_windows(Credit::new(100, 1), NOTHING).await;
}

async fn a_restarted_nodes_earlier_leases_are_reclaimed(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let first = scene.node().await;
    scene.lease(first, Credit::new(300, 3)).await;
    let second = scene.restarted(first).await;
    scene.lease(second, Credit::new(200, 2)).await;
    scene.reclaim(LostLease::Release).await;
    scene.assert_windows(NOTHING, Credit::new(200, 2)).await;
    let want = scene.want(NOTHING, Credit::new(1, 1));
    assert!(matches!(scene.refill(first, want).await, Err(PortError::Fenced)));
}

async fn reclaiming_is_bounded_and_says_whether_more_is_left(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    scene.reclaim(LostLease::Charge).await;
    let node = scene.node().await;
    for _ in 0..5 {
        let receipt = scene.another_receipt().await;
        Scene { receipt, ..scene.clone() }.lease(node, Credit::new(10, 1)).await;
    }
    scene.dies(node).await;
    let (mut leases, mut credit, mut steps) = (0, NOTHING, 0);
    loop {
        let step = store.reclaim(LostLease::Charge, scene.now, 2).await.expect("reclaimed");
        assert!(step.leases <= 2);
        leases += step.leases;
        credit += step.credit;
        steps += 1;
        assert!(steps <= 5, "every step takes something");
        if !step.more {
            break;
        }
    }
    assert_eq!((leases, credit), (5, Credit::new(50, 5)));
}

async fn many_reclaimers_at_once_charge_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(300, 3)).await;
    scene.dies(node).await;
    let reclaimers: Vec<_> = (0..6)
        .map(|_| {
            let scene = scene.clone();
            tokio::spawn(
                async move { scene.store.reclaim(LostLease::Charge, scene.now, 100).await.expect("reclaimed") },
            )
        })
        .collect();
    for reclaimer in reclaimers {
        reclaimer.await.expect("no panic");
    }
    scene.reclaim(LostLease::Charge).await;
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
}

async fn leases_of_several_hours_come_off_their_own_windows(store: &Store) {
    for mode in [LostLease::Charge, LostLease::Release] {
        let mut scene = Scene::new(store, limited(1000, 10)).await;
        let node = scene.node().await;
        // Early in a day, so that the next hour is of the same one.
        scene.now = WindowKind::Day.window(scene.now).start;
        scene.lease(node, Credit::new(100, 1)).await;
        let first = scene.now;
        scene.now = first + Duration::from_secs(3600);
        scene.lease(node, Credit::new(200, 2)).await;
        scene.dies(node).await;
        scene.reclaim(mode).await;
        let charged = |credit| if mode == LostLease::Charge { credit } else { NOTHING };
        let [hour, day, month] = scene.windows().await;
        assert_eq!((hour.used, hour.reserved), (charged(Credit::new(200, 2)), NOTHING));
        assert_eq!((day.used, day.reserved), (charged(Credit::new(300, 3)), NOTHING));
        assert_eq!((month.used, month.reserved), (charged(Credit::new(300, 3)), NOTHING));
        scene.assert_audited().await;
    }
}
