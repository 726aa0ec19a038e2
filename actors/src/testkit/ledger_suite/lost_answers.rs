//! Lost statements: a request that is repeated is carried out once.

use super::{
    Store,
    scene::{Scene, limited},
};
use crate::{
    model::{Credit, LostLease, ReceiptStatus},
    ports::{Refill, RefillRequest},
    testkit::{
        asked,
        lost_statements::{HourUsage, Subject, no_credit_is_stranded_or_charged},
    },
};

/// Walks that lose each statement at each place many times.
const SEEDS: [u64; 3] = [5, 4_711, 90_210];
const STEPS: usize = 80;

const NOTHING: Credit = Credit::ZERO;

pub(super) async fn run(store: &Store) {
    a_repeated_refill_gets_the_grant_of_the_first(store).await;
    a_repeat_is_reported_although_the_receipt_has_lost_its_right(store).await;
    a_statement_that_arrives_after_its_repeat_grants_nothing(store).await;
    a_statement_that_arrives_after_a_later_one_grants_nothing(store).await;
    a_repeat_and_its_original_at_once_grant_once(store).await;
    for seed in SEEDS {
        let scene = Scene::new(store, limited(5000, 60)).await;
        let node = scene.node().await;
        let subject = Subject { node, receipt_id: scene.receipt, content_hash: scene.content, now: scene.now };
        let look = async || {
            let [hour, ..] = scene.windows().await;
            scene.assert_audited().await;
            HourUsage { used: hour.used, reserved: hour.reserved }
        };
        Box::pin(no_credit_is_stranded_or_charged(&**store, subject, look, seed, STEPS)).await;
    }
}

async fn ask(scene: &Scene, node: crate::model::NodeEpoch, request: RefillRequest) -> Refill {
    let sizing = super::scene::WHOLE;
    scene.store.refill(node, &[request], sizing, scene.now).await.expect("answered").remove(0)
}

async fn a_repeated_refill_gets_the_grant_of_the_first(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(100, 1)).await;
    let request = asked(scene.want(Credit::new(200, 2), Credit::new(200, 2)));
    assert_eq!(ask(&scene, node, request).await.granted, Credit::new(200, 2));
    for _ in 0..2 {
        let again = ask(&scene, node, request.repeated()).await;
        assert_eq!(again.granted, Credit::new(200, 2));
        assert!(again.windows.iter().all(|window| window.reserved == Credit::new(300, 3)));
    }
    let never_arrived = asked(scene.want(Credit::new(300, 3), Credit::new(300, 3))).repeated();
    for _ in 0..2 {
        assert_eq!(ask(&scene, node, never_arrived).await.granted, Credit::new(300, 3));
    }
    scene.assert_windows(NOTHING, Credit::new(600, 6)).await;
}

async fn a_repeat_is_reported_although_the_receipt_has_lost_its_right(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let request = asked(scene.want(Credit::new(200, 2), Credit::new(200, 2)));
    ask(&scene, node, request).await;
    store.set_receipt_status(scene.receipt, ReceiptStatus::Refunded, scene.now).await.expect("refunded");
    let again = ask(&scene, node, request.repeated()).await;
    assert_eq!(again.granted, Credit::new(200, 2), "the node holds it and must give it back");
    let late = asked(scene.want(Credit::new(200, 2), Credit::new(200, 2)));
    assert_eq!(ask(&scene, node, late.repeated()).await.granted, NOTHING);
    scene.assert_windows(NOTHING, Credit::new(200, 2)).await;
}

async fn a_statement_that_arrives_after_its_repeat_grants_nothing(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let amount = Credit::new(200, 2);
    let request = asked(scene.want(amount, amount));
    assert_eq!(ask(&scene, node, request.repeated()).await.granted, amount);
    // Even after all of it was given back, so that the lease is gone.
    scene.settle(node, 1, vec![], vec![scene.release(node, amount)]).await;
    scene.assert_windows(NOTHING, NOTHING).await;
    ask(&scene, node, request).await;
    scene.assert_windows(NOTHING, NOTHING).await;
    // A request that did not fit when its repeat was answered.
    let all = Credit::new(1000, 10);
    scene.lease(node, all).await;
    let refused = asked(scene.want(amount, amount));
    assert_eq!(ask(&scene, node, refused.repeated()).await.granted, NOTHING);
    scene.settle(node, 2, vec![], vec![scene.release(node, all)]).await;
    ask(&scene, node, refused).await;
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn a_statement_that_arrives_after_a_later_one_grants_nothing(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let amount = Credit::new(200, 2);
    let early = asked(scene.want(amount, amount));
    ask(&scene, node, early.repeated()).await;
    scene.lease(node, Credit::new(100, 1)).await;
    assert_eq!(ask(&scene, node, early).await.granted, amount, "the same answer as before");
    scene.assert_windows(NOTHING, Credit::new(300, 3)).await;
}

async fn a_repeat_and_its_original_at_once_grant_once(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let amount = Credit::new(200, 2);
    let request = asked(scene.want(amount, amount));
    let both = [request, request.repeated(), request.repeated()].map(|request| {
        let scene = scene.clone();
        tokio::spawn(async move { ask(&scene, node, request).await })
    });
    for one in both {
        assert_eq!(one.await.expect("no panic").granted, amount);
    }
    scene.assert_windows(NOTHING, amount).await;
    scene.dies(node).await;
    scene.reclaim(LostLease::Release).await;
    scene.assert_windows(NOTHING, NOTHING).await;
}
