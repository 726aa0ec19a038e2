//! A node that stops closes its epoch: nothing of the epoch is charged, and no statement of it takes anything any more.

use std::time::Duration;

use super::{
    Store,
    scene::{Scene, WHOLE, limited, nodes_alive, reclaim},
};
use crate::{
    model::{Credit, LostLease, Outcome, WindowKind},
    ports::PortError,
    testkit::asked,
};

const NOTHING: Credit = Credit::ZERO;
const TTL: Duration = Duration::from_secs(60);

pub(super) async fn run(store: &Store) {
    what_is_left_of_a_closed_epoch_is_released(store).await;
    a_closed_epoch_takes_no_lease_and_no_heartbeat(store).await;
    an_unknown_epoch_is_closed_as_well(store).await;
    closing_is_bounded_and_says_whether_more_is_left(store).await;
    a_refill_under_way_and_the_end_of_its_epoch_leave_nothing(store).await;
    a_node_that_lived_on_is_not_charged_for_what_it_did_not_send(store).await;
    the_charge_for_a_crash_stays(store).await;
    ends_and_reclaims_at_once_leave_what_was_sent(store).await;
}

async fn what_is_left_of_a_closed_epoch_is_released(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let (node, other) = (scene.node().await, scene.node().await);
    scene.lease(node, Credit::new(300, 3)).await;
    scene.lease(other, Credit::new(200, 2)).await;
    scene.settle(node, 1, vec![scene.row(node, 100)], vec![]).await;
    let closed = store.close(node, 100).await.expect("closed");
    assert_eq!((closed.leases, closed.credit, closed.more), (1, Credit::new(200, 2), false));
    scene.assert_windows(Credit::new(100, 1), Credit::new(200, 2)).await;
    let again = store.close(node, 100).await.expect("closed");
    assert_eq!((again.leases, again.credit), (0, NOTHING));
    scene.reclaim(LostLease::Charge).await;
    scene.assert_windows(Credit::new(100, 1), Credit::new(200, 2)).await;
    // The node's next epoch is not affected.
    let later = scene.restarted(node).await;
    scene.lease(later, Credit::new(50, 1)).await;
    store.close(node, 100).await.expect("closed");
    scene.assert_windows(Credit::new(100, 1), Credit::new(250, 3)).await;
}

async fn a_closed_epoch_takes_no_lease_and_no_heartbeat(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let alive = nodes_alive(store).await;
    store.close(node, 100).await.expect("closed");
    assert_eq!(nodes_alive(store).await, alive - 1);
    let amount = Credit::new(100, 1);
    let request = asked(scene.want(amount, amount));
    for request in [request, request.repeated()] {
        let answer = store.refill(node, &[request], WHOLE, scene.now).await;
        assert!(matches!(answer, Err(PortError::Fenced)), "{answer:?}");
    }
    assert!(matches!(store.heartbeat(node, TTL).await, Err(PortError::Fenced)));
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn an_unknown_epoch_is_closed_as_well(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let stranger = crate::model::NodeEpoch { node: crate::ids::NodeId::random(), epoch: 1 };
    store.close(stranger, 100).await.expect("closed");
    assert!(matches!(store.heartbeat(stranger, TTL).await, Err(PortError::Fenced)), "a heartbeat that is late");
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn closing_is_bounded_and_says_whether_more_is_left(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let mut scenes = Vec::new();
    for _ in 0..5 {
        let receipt = scene.another_receipt().await;
        let scene = Scene { receipt, ..scene.clone() };
        scene.lease(node, Credit::new(10, 1)).await;
        scenes.push(scene);
    }
    let (mut leases, mut steps) = (0, 0);
    loop {
        let step = store.close(node, 2).await.expect("closed");
        assert!(step.leases <= 2);
        leases += step.leases;
        steps += 1;
        assert!(steps <= 5, "every step releases something");
        if !step.more {
            break;
        }
    }
    assert_eq!(leases, 5);
    for scene in scenes {
        scene.assert_windows(NOTHING, NOTHING).await;
    }
}

async fn a_refill_under_way_and_the_end_of_its_epoch_leave_nothing(store: &Store) {
    let scene = Scene::new(store, limited(100_000, 10_000)).await;
    for _ in 0..5 {
        let node = scene.node().await;
        let refills = (0..8).map(|_| {
            let scene = scene.clone();
            let request = asked(scene.want(Credit::new(10, 1), Credit::new(10, 1)));
            tokio::spawn(async move {
                // It may be fenced or not; in both cases it leaves no lease.
                drop(scene.store.refill(node, &[request], WHOLE, scene.now).await);
            })
        });
        let refills: Vec<_> = refills.collect();
        store.close(node, 100).await.expect("closed");
        for refill in refills {
            refill.await.expect("no panic");
        }
        scene.assert_windows(NOTHING, NOTHING).await;
    }
}

async fn a_node_that_lived_on_is_not_charged_for_what_it_did_not_send(store: &Store) {
    let mut scene = Scene::new(store, limited(1000, 20)).await;
    // Early in a day, so that the next hour is in the same day.
    scene.now = WindowKind::Day.window(scene.now).start + Duration::from_secs(600);
    let (node, other) = (scene.node().await, scene.node().await);
    scene.lease(node, Credit::new(300, 3)).await;
    let early = scene.row(node, 100);
    scene.now += Duration::from_secs(3600);
    scene.lease(node, Credit::new(200, 2)).await;
    let late = scene.row(node, 200);
    scene.dies(node).await;
    scene.reclaim(LostLease::Charge).await;
    // Meanwhile another node uses everything else.
    scene.lease(other, Credit::new(500, 5)).await;
    let awake = scene.restarted(node).await;
    assert_eq!(scene.settle(awake, 1, vec![early, late], vec![]).await, 2);
    let (mut uncharged, mut leases, mut steps) = (NOTHING, 0, 0);
    loop {
        let step = store.close(node, 1).await.expect("closed");
        uncharged += step.uncharged;
        leases += step.uncharged_leases;
        assert_eq!((step.leases, step.credit), (0, NOTHING));
        steps += 1;
        assert!(steps <= 3, "every step ends a lease");
        if !step.more {
            break;
        }
    }
    assert_eq!((leases, uncharged), (2, Credit::new(200, 3)));
    let [hour, day, month] = scene.windows().await;
    assert_eq!((hour.used, hour.reserved), (Credit::new(200, 1), Credit::new(500, 5)));
    for window in [day, month] {
        assert_eq!((window.used, window.reserved), (Credit::new(300, 2), Credit::new(500, 5)), "{window:?}");
    }
    scene.assert_audited().await;
    let again = store.close(node, 100).await.expect("closed");
    assert_eq!((again.uncharged_leases, again.uncharged, again.more), (0, NOTHING, false));
    let page = store.usage(scene.receipt, None, 100).await.expect("usage");
    assert!(page.items.iter().all(|row| row.outcome != Outcome::LostLease), "{page:?}");
    // What was taken back can be used, and no more than that.
    scene.lease(awake, Credit::new(200, 3)).await;
    let one = Credit::new(1, 1);
    assert!(scene.refill(awake, scene.want(one, one)).await.expect("answered").granted.is_zero());
}

async fn the_charge_for_a_crash_stays(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(300, 3)).await;
    let restarted = scene.restarted(node).await;
    scene.reclaim(LostLease::Charge).await;
    scene.lease(restarted, Credit::new(200, 2)).await;
    let closed = store.close(restarted, 100).await.expect("closed");
    assert_eq!((closed.leases, closed.uncharged_leases), (1, 0));
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
}

async fn ends_and_reclaims_at_once_leave_what_was_sent(store: &Store) {
    let scene = Scene::new(store, limited(100_000, 10_000)).await;
    let node = scene.node().await;
    let mut scenes = Vec::new();
    for _ in 0..8 {
        let receipt = scene.another_receipt().await;
        let scene = Scene { receipt, ..scene.clone() };
        scene.lease(node, Credit::new(100, 2)).await;
        scenes.push(scene);
    }
    let rows = scenes.iter().map(|scene| scene.row(node, 40)).collect();
    scene.settle(node, 1, rows, vec![]).await;
    scene.dies(node).await;
    let ends: Vec<_> = (0..6)
        .map(|number| {
            let scene = scene.clone();
            tokio::spawn(async move {
                if number % 2 == 0 {
                    reclaim(&scene.store, LostLease::Charge, scene.now, 2).await;
                } else {
                    while scene.store.close(node, 3).await.expect("closed").more {}
                }
            })
        })
        .collect();
    for end in ends {
        end.await.expect("no panic");
    }
    while store.close(node, 3).await.expect("closed").more {}
    for scene in scenes {
        scene.assert_windows(Credit::new(40, 1), NOTHING).await;
    }
}
