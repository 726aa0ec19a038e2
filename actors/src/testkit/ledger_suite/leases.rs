//! Refills: what is loaded, what is leased, and what is never leased.

use std::time::Duration;

use futures::future::join_all;

use super::{
    Store,
    scene::{SIZE_BYTES, Scene, WHOLE, limited, random_content, unlimited},
};
use crate::{
    ids::{NodeId, ReceiptId},
    model::{Credit, LeaseSizing, Limits, LostLease, NodeEpoch, QuotaPolicy, ReceiptStatus, WindowKind},
    ports::{NewReceipt, PortError, RefillRequest, Want},
    testkit::asked,
};

pub(super) async fn run(store: &Store) {
    a_want_of_nothing_only_loads(store).await;
    answers_come_in_the_order_of_the_wants(store).await;
    nothing_is_leased_to_a_receipt_that_may_not_stream(store).await;
    nothing_is_leased_without_the_content(store).await;
    a_policy_without_limits_has_nothing_to_lease(store).await;
    nothing_is_leased_or_charged_in_a_dimension_without_a_limit(store).await;
    a_lease_is_sized_as_the_formula_says(store).await;
    a_need_that_does_not_fit_gets_nothing(store).await;
    the_last_hundredth_is_leased_only_as_needed(store).await;
    a_need_of_everything_means_the_whole_content(store).await;
    leases_of_one_hour_add_up(store).await;
    every_window_limits_a_lease(store).await;
    a_node_that_is_not_alive_gets_no_lease(store).await;
    many_nodes_at_once_never_pass_the_limit(store).await;
    many_receipts_at_once_in_any_order_do_not_block_each_other(store).await;
}

const NOTHING: Credit = Credit::ZERO;

async fn a_want_of_nothing_only_loads(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let refill = scene.refill(node, scene.want(NOTHING, NOTHING)).await.expect("loaded");
    let view = refill.view.expect("the receipt exists");
    assert_eq!(view.receipt, store.receipt(scene.receipt).await.expect("read").expect("there"));
    assert_eq!(view.policy, scene.policy);
    assert_eq!(view.asset_name, "a name");
    let content = view.content.expect("stored");
    assert_eq!((content.content_hash, content.size_bytes), (scene.content, SIZE_BYTES));
    assert_eq!(content.media_type, "text/plain");
    assert_eq!(refill.granted, NOTHING);
    assert_eq!(refill.windows, scene.windows().await);
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn answers_come_in_the_order_of_the_wants(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let mut wants = Vec::new();
    for number in 0..9 {
        let receipt_id = if number % 3 == 2 { ReceiptId::random() } else { scene.another_receipt().await };
        let amount = Credit::new(number + 1, 1);
        wants.push(Want { receipt_id, content_hash: scene.content, need: amount, want: amount });
    }
    let requests: Vec<RefillRequest> = wants.iter().copied().map(asked).collect();
    let answers = store.refill(node, &requests, WHOLE, scene.now).await.expect("answers");
    assert_eq!(answers.len(), wants.len());
    for (number, (want, answer)) in wants.iter().zip(answers).enumerate() {
        match answer.view {
            Some(view) => {
                assert_eq!(view.receipt.receipt_id, want.receipt_id);
                assert_eq!(answer.granted, want.want);
                assert!(answer.windows.iter().all(|window| window.reserved == want.want));
            }
            None => {
                assert_eq!(number % 3, 2, "only unknown receipts have no view");
                assert_eq!(answer.granted, NOTHING);
            }
        }
    }
    assert_eq!(store.refill(node, &[], WHOLE, scene.now).await.expect("no answers"), []);
}

async fn nothing_is_leased_to_a_receipt_that_may_not_stream(store: &Store) {
    let mut scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    for status in ReceiptStatus::ALL {
        for expires_at in [scene.now, scene.now + Duration::from_secs(60)] {
            let new = NewReceipt { status, expires_at, ..scene.new_receipt() };
            scene.receipt = store.create_receipt(&new).await.expect("a receipt").receipt_id;
            let refill = scene.refill(node, scene.want(NOTHING, Credit::new(10, 1))).await.expect("answered");
            let receipt = refill.view.expect("the receipt exists").receipt;
            let may_stream = receipt.status_at(scene.now).may_stream();
            let granted = if may_stream { Credit::new(10, 1) } else { NOTHING };
            assert_eq!(refill.granted, granted, "{status} until {expires_at}");
            scene.assert_windows(NOTHING, granted).await;
        }
    }
}

async fn nothing_is_leased_without_the_content(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let node = scene.node().await;
    let other = Want { content_hash: random_content(), ..scene.want(NOTHING, Credit::new(10, 1)) };
    let refill = scene.refill(node, other).await.expect("answered");
    assert_eq!(refill.granted, NOTHING);
    assert_eq!(refill.view.expect("the receipt exists").receipt.content_hash, scene.content);
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn a_policy_without_limits_has_nothing_to_lease(store: &Store) {
    let scene = Scene::new(store, unlimited()).await;
    let node = scene.node().await;
    let refill = scene.refill(node, scene.want(Credit::new(1, 1), Credit::new(10, 1))).await.expect("answered");
    assert_eq!(refill.granted, NOTHING);
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn nothing_is_leased_or_charged_in_a_dimension_without_a_limit(store: &Store) {
    for (policy, leased) in [
        (QuotaPolicy { bytes_per_day: Some(5000), ..unlimited() }, Credit::new(1000, 0)),
        (QuotaPolicy { requests_per_month: Some(50), ..unlimited() }, Credit::new(0, 10)),
    ] {
        let scene = Scene::new(store, policy).await;
        let node = scene.node().await;
        let refill =
            scene.refill(node, scene.want(Credit::new(100, 1), Credit::new(1000, 10))).await.expect("answered");
        assert_eq!(refill.granted, leased);
        scene.assert_windows(NOTHING, leased).await;
        // A stream is used in full, and taken off the lease as far as it was leased.
        assert_eq!(scene.settle(node, 1, vec![scene.row(node, 300)], vec![]).await, 1);
        let left = leased - leased.min(Credit::new(300, 1));
        scene.assert_windows(Credit::new(300, 1), left).await;
        scene.dies(node).await;
        scene.reclaim(LostLease::Charge).await;
        scene.assert_windows(Credit::new(300, 1) + left, NOTHING).await;
        assert_eq!(scene.settle(node, 2, vec![scene.row(node, 70)], vec![]).await, 1);
        let explained = left.min(Credit::new(70, 1));
        scene.assert_windows(Credit::new(370, 2) + left - explained, NOTHING).await;
    }
}

async fn a_lease_is_sized_as_the_formula_says(store: &Store) {
    let policy = QuotaPolicy { bytes_per_day: None, requests_per_month: Some(50), ..limited(10_000, 80) };
    let scene = Scene::new(store, policy).await;
    let node = scene.node().await;
    let sizing = LeaseSizing { divisor: 8 };
    for (need, want) in [(0, 5000), (100, 200), (3000, 1), (1, 100_000), (0, 1), (2000, 0), (0, 100_000)] {
        let (need, want) = (Credit::new(need, 1), Credit::new(want, 7));
        let before: Vec<(Limits, Credit)> = scene
            .windows()
            .await
            .iter()
            .map(|window| (scene.policy.limits(window.window.kind), window.used + window.reserved))
            .collect();
        let expected = sizing.grant_all(before, need, want).unwrap_or(NOTHING);
        let answers = store.refill(node, &[asked(scene.want(need, want))], sizing, scene.now).await.expect("answered");
        assert_eq!(answers[0].granted, expected, "need {need:?}, want {want:?}");
        assert_eq!(answers[0].windows, scene.windows().await);
    }
    scene.assert_audited().await;
}

async fn a_need_that_does_not_fit_gets_nothing(store: &Store) {
    let scene = Scene::new(store, limited(1000, 2)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(900, 1)).await;
    for need in [Credit::new(101, 1), Credit::new(1, 2)] {
        let refill = scene.refill(node, scene.want(need, need)).await.expect("answered");
        assert_eq!(refill.granted, NOTHING, "{need:?}");
        assert!(refill.windows.iter().all(|window| window.reserved == Credit::new(900, 1)));
    }
    scene.lease(node, Credit::new(100, 1)).await;
    scene.assert_windows(NOTHING, Credit::new(1000, 2)).await;
}

async fn the_last_hundredth_is_leased_only_as_needed(store: &Store) {
    let scene = Scene::new(store, limited(1000, 1000)).await;
    let node = scene.node().await;
    scene.lease(node, Credit::new(990, 1)).await;
    let refill = scene.refill(node, scene.want(Credit::new(3, 1), Credit::new(10, 1))).await.expect("answered");
    assert_eq!(refill.granted, Credit::new(3, 1));
    let refill = scene.refill(node, scene.want(NOTHING, Credit::new(10, 0))).await.expect("answered");
    assert_eq!(refill.granted, NOTHING, "without a need nothing of the last hundredth is granted");
}

async fn a_need_of_everything_means_the_whole_content(store: &Store) {
    let scene = Scene::new(store, limited(SIZE_BYTES * 10, 10)).await;
    let node = scene.node().await;
    let whole = Credit::new(u64::MAX, 1);
    let refill = scene.refill(node, scene.want(whole, Credit::new(1, 1))).await.expect("answered");
    assert_eq!(refill.granted, Credit::new(SIZE_BYTES, 1));
    scene.assert_windows(NOTHING, Credit::new(SIZE_BYTES, 1)).await;
}

async fn leases_of_one_hour_add_up(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let (one, other) = (scene.node().await, scene.node().await);
    scene.lease(one, Credit::new(100, 1)).await;
    scene.lease(other, Credit::new(200, 1)).await;
    scene.lease(one, Credit::new(300, 2)).await;
    scene.assert_windows(NOTHING, Credit::new(600, 4)).await;
    assert_eq!(store.leased(one).await.expect("added up"), Credit::new(400, 3));
    scene.settle(one, 1, vec![scene.row(one, 50)], vec![]).await;
    assert_eq!(store.leased(one).await.expect("added up"), Credit::new(350, 2));
    assert_eq!(store.leased(scene.node().await).await.expect("added up"), NOTHING);
}

async fn every_window_limits_a_lease(store: &Store) {
    for kind in WindowKind::ALL {
        let mut policy = limited(1 << 40, 1 << 20);
        match kind {
            WindowKind::Hour => policy.bytes_per_hour = Some(500),
            WindowKind::Day => policy.bytes_per_day = Some(500),
            WindowKind::Month => policy.bytes_per_month = Some(500),
        }
        let scene = Scene::new(store, policy).await;
        let node = scene.node().await;
        let refill = scene.refill(node, scene.want(NOTHING, Credit::new(9999, 1))).await.expect("answered");
        assert_eq!(refill.granted, Credit::new(500, 1), "{kind:?}");
    }
}

async fn a_node_that_is_not_alive_gets_no_lease(store: &Store) {
    let scene = Scene::new(store, limited(1000, 10)).await;
    let want = scene.want(NOTHING, Credit::new(10, 1));
    let stranger = NodeEpoch { node: NodeId::random(), epoch: 1 };
    assert!(matches!(scene.refill(stranger, want).await, Err(PortError::Fenced)));

    let late = scene.node().await;
    scene.dies(late).await;
    assert!(matches!(scene.refill(late, want).await, Err(PortError::Fenced)));

    let fenced = scene.node().await;
    scene.dies(fenced).await;
    scene.reclaim(LostLease::Charge).await;
    assert!(matches!(scene.refill(fenced, want).await, Err(PortError::Fenced)));
    assert!(matches!(store.heartbeat(fenced, Duration::from_secs(60)).await, Err(PortError::Fenced)));
    scene.assert_windows(NOTHING, NOTHING).await;
}

async fn many_nodes_at_once_never_pass_the_limit(store: &Store) {
    const LIMIT: u64 = 10_007;
    let scene = Scene::new(store, limited(LIMIT, 1_000_000)).await;
    // A node has one request for a receipt in flight.
    let mut nodes = Vec::new();
    for _ in 0..16 {
        nodes.push(scene.node().await);
    }
    // 16 callers want 16 * 16 * 100 bytes, two and a half times the limit; the last rest that fits is smaller than a need.
    let callers = (0..16).map(|number| {
        let (scene, node) = (scene.clone(), nodes[number % nodes.len()]);
        tokio::spawn(async move {
            let mut granted = 0;
            for _ in 0..16 {
                let want = scene.want(Credit::new(100, 1), Credit::new(100, 1));
                granted += scene.refill(node, want).await.expect("answered").granted.bytes;
            }
            granted
        })
    });
    let granted: u64 = join_all(callers).await.into_iter().map(|caller| caller.expect("no panic")).sum();
    assert_eq!(granted, LIMIT / 100 * 100, "all that fits is leased, and not one byte more");
    scene.assert_windows(NOTHING, Credit::new(granted, granted / 100)).await;
}

async fn many_receipts_at_once_in_any_order_do_not_block_each_other(store: &Store) {
    let scene = Scene::new(store, limited(1 << 40, 1 << 20)).await;
    let (mut nodes, mut receipts) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        nodes.push(scene.node().await);
    }
    for _ in 0..12 {
        receipts.push(scene.another_receipt().await);
    }
    let callers = nodes.into_iter().enumerate().map(|(number, node)| {
        let (scene, mut receipts) = (scene.clone(), receipts.clone());
        tokio::spawn(async move {
            for turn in 0..6 {
                receipts.rotate_left(number + turn);
                if turn % 2 == 1 {
                    receipts.reverse();
                }
                let amount = Credit::new(10, 1);
                let requests: Vec<RefillRequest> = receipts
                    .iter()
                    .map(|&receipt_id| Want { receipt_id, content_hash: scene.content, need: amount, want: amount })
                    .map(asked)
                    .collect();
                let answers = scene.store.refill(node, &requests, WHOLE, scene.now).await.expect("no deadlock");
                assert!(answers.iter().all(|answer| answer.granted == amount));
            }
        })
    });
    for caller in join_all(callers).await {
        caller.expect("no panic");
    }
    for receipt in receipts {
        Scene { receipt, ..scene.clone() }.assert_windows(NOTHING, Credit::new(480, 48)).await;
    }
}
