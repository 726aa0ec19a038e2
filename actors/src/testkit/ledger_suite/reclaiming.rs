//! Lost nodes: how an epoch ends, and what happens to its leases and its late rows.

use std::time::Duration;

use super::{
    Store,
    scene::{Scene, limited, nodes_alive, reclaim, reclaim_by, reclaimer},
};
use crate::{
    ids::NodeId,
    model::{Credit, LostLease, NodeEpoch, Outcome, UsageRow, WindowKind},
    ports::{EpochStanding, PortError, Pulse},
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
    a_namesake_takes_no_leases_and_what_is_lost_to_it_is_released(store).await;
    a_reclaimer_that_is_late_takes_nothing_until_the_others_had_their_time(store).await;
    an_epoch_ends_when_both_clocks_say_so(store).await;
    what_a_node_does_not_know_of_is_kept_for_an_audit_while_it_lives(store).await;
    the_latest_epoch_of_a_node_is_known_with_its_heartbeats(store).await;
    reclaiming_is_bounded_and_says_whether_more_is_left(store).await;
    many_reclaimers_at_once_charge_once(store).await;
    leases_of_several_hours_come_off_their_own_windows(store).await;
}

const NOTHING: Credit = Credit::ZERO;
const TTL: Duration = Duration::from_secs(3600);

async fn a_heartbeat_makes_a_node_known_and_a_later_epoch_ends_the_earlier(store: &Store) {
    let anytime = "2030-01-01T00:00:00Z".parse().expect("a time");
    // Fence epochs of other tests, so that only this node's epochs change the count.
    reclaim(store, LostLease::Charge, anytime, 1000).await;
    let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
    let before = nodes_alive(store).await;
    for _ in 0..2 {
        store.heartbeat(node, TTL).await.expect("alive");
        assert_eq!(nodes_alive(store).await, before + 1);
    }
    let later = NodeEpoch { epoch: 2, ..node };
    store.heartbeat(later, TTL).await.expect("alive");
    assert!(matches!(store.heartbeat(node, TTL).await, Err(PortError::Fenced)));
    store.heartbeat(later, Duration::ZERO).await.expect("its last");
    reclaim(store, LostLease::Charge, anytime, 1000).await;
    assert_eq!(nodes_alive(store).await, before);
    assert!(matches!(store.heartbeat(later, TTL).await, Err(PortError::Fenced)));
}

async fn a_node_that_was_late_but_not_reclaimed_comes_back(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(100, 1)).await;
    scene.dies(node).await;
    store.heartbeat(node, TTL).await.expect("it was not reclaimed");
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
    let before = store.unheld().await.expect("added up");
    scene.dies(node).await;
    let after = store.unheld().await.expect("added up");
    assert_eq!((after.leases, after.credit), (before.leases + 1, before.credit + Credit::new(300, 3)));
    scene.reclaim(LostLease::Charge).await;
    assert_eq!(store.unheld().await.expect("added up").leases, 0);
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
    // A late release gives nothing back: the lease was charged.
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

async fn a_namesake_takes_no_leases_and_what_is_lost_to_it_is_released(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let first = scene.node().await;
    scene.lease(first, Credit::new(300, 3)).await;
    let namesake = scene.replaced(first).await;
    scene.lease(namesake, Credit::new(200, 2)).await;
    // Until its time is over, the first node keeps its leases.
    scene.reclaim(LostLease::Charge).await;
    scene.assert_windows(NOTHING, Credit::new(500, 5)).await;
    assert!(
        matches!(store.heartbeat(first, TTL).await, Err(PortError::Fenced)),
        "a later epoch of its identity fences it"
    );
    scene.settle(first, 1, vec![scene.row(first, 100)], vec![]).await;
    store.declare_dead(first).await.expect("declared");
    let step = reclaim(store, LostLease::Charge, scene.now, 100).await;
    assert_eq!((step.spared_leases, step.spared), (1, Credit::new(200, 2)), "{step:?}");
    scene.assert_windows(Credit::new(100, 1), Credit::new(200, 2)).await;
}

async fn a_reclaimer_that_is_late_takes_nothing_until_the_others_had_their_time(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    scene.reclaim(LostLease::Charge).await;
    let (late, other) = (scene.node().await, scene.node().await);
    scene.lease(late, Credit::new(300, 3)).await;
    scene.lease(other, Credit::new(200, 2)).await;
    // As after the machine slept, or the ledger's clock was set ahead: no heartbeat is in time.
    for node in [late, other] {
        scene.dies(node).await;
    }
    let nothing = reclaim_by(store, late, LostLease::Charge, scene.now, 100).await;
    assert_eq!(nothing.leases, 0, "neither its own lease nor the other's");
    for _ in 0..2 {
        store.heartbeat(late, TTL).await.expect("it was not fenced");
        let nothing = reclaim_by(store, late, LostLease::Charge, scene.now, 100).await;
        assert_eq!(nothing.leases, 0, "the other node has not had time for a heartbeat");
    }
    scene.assert_windows(NOTHING, Credit::new(500, 5)).await;
    store.heartbeat(late, TTL).await.expect("alive");
    let lost = reclaim_by(store, late, LostLease::Charge, scene.now, 100).await;
    assert_eq!((lost.leases, lost.credit, lost.spared_leases), (1, Credit::new(200, 2), 0));
    scene.assert_windows(Credit::new(200, 2), Credit::new(300, 3)).await;
}

async fn an_epoch_ends_when_both_clocks_say_so(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    scene.reclaim(LostLease::Charge).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(300, 3)).await;
    let seen = async || {
        let pulses = store.pulses().await.expect("seen");
        pulses.into_iter().find(|pulse| pulse.node_epoch == node)
    };
    let alive = seen().await.expect("it lives");
    assert_eq!(alive, Pulse { node_epoch: node, heartbeats: 1, lease: Some(TTL), alive: true });
    let by = reclaimer(store).await;
    let takes = async |silent: &[Pulse]| {
        store.reclaim(by, silent, LostLease::Charge, scene.now, 100).await.expect("answered").leases
    };
    assert_eq!(takes(&[alive]).await, 0, "by the ledger's clock its time is not over");
    scene.dies(node).await;
    let late = seen().await.expect("nobody has fenced it");
    assert_eq!((late.heartbeats, late.lease, late.alive), (2, Some(Duration::ZERO), false));
    assert_eq!(takes(&[]).await, 0, "nobody has seen it silent: the ledger's clock may have leapt");
    assert_eq!(takes(&[alive]).await, 0, "it has sent a heartbeat since");
    assert!(seen().await.is_some());
    scene.assert_windows(NOTHING, Credit::new(300, 3)).await;
    assert_eq!(takes(&[late]).await, 1);
    assert_eq!(seen().await, None);
    scene.assert_windows(Credit::new(300, 3), NOTHING).await;
}

async fn what_a_node_does_not_know_of_is_kept_for_an_audit_while_it_lives(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let told = async || {
        let compared = store.compared().await.expect("read");
        compared.into_iter().find(|compared| compared.node_epoch == node).map(|compared| compared.unknown)
    };
    assert_eq!(told().await, Some(None), "what nobody has compared is not known to be nothing");
    for unknown in [Credit::new(300, 3), NOTHING] {
        store.note_unknown(node, unknown).await.expect("noted");
        let (kept, _) = told().await.flatten().expect("it has compared");
        assert_eq!(kept, unknown);
    }
    scene.dies(node).await;
    assert_eq!(told().await, None, "it is the Janitor's business now");
}

async fn the_latest_epoch_of_a_node_is_known_with_its_heartbeats(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let standing = async |node: NodeEpoch| store.standing(node.node).await.expect("answered");
    assert_eq!(standing(NodeEpoch { node: NodeId::random(), epoch: 1 }).await, None);
    let node = scene.node().await;
    store.heartbeat(node, TTL).await.expect("alive");
    assert_eq!(standing(node).await, Some(EpochStanding { epoch: 1, heartbeats: 2, alive: true }));
    let later = scene.restarted(node).await;
    assert_eq!(standing(node).await, Some(EpochStanding { epoch: 2, heartbeats: 1, alive: true }));
    store.declare_dead(later).await.expect("declared");
    assert_eq!(standing(node).await, Some(EpochStanding { epoch: 2, heartbeats: 1, alive: false }));
    reclaim(store, LostLease::Release, scene.now, 100).await;
    assert_eq!(standing(node).await, Some(EpochStanding { epoch: 2, heartbeats: 1, alive: false }));
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
        let step = reclaim(store, LostLease::Charge, scene.now, 2).await;
        assert!(step.leases <= 2);
        leases += step.leases;
        credit += step.credit;
        steps += 1;
        assert!(steps <= 5, "every step reclaims something");
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
            tokio::spawn(async move { reclaim(&scene.store, LostLease::Charge, scene.now, 100).await })
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
        // Early in a day, so that the next hour is in the same day.
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
