//! Leases over the lifetime of a node: validity, fences, epochs and the hour.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use futures::StreamExt as _;
use penstock_actors::{
    content::delivery::DeliveryError,
    model::{Credit, LostLease, NodeEpoch, Outcome, QuotaPolicy},
    ports::Ledger as _,
    quota::{book::Demand, refusal::Refusal},
    testkit::script::Fault,
};

use crate::{
    quota::Owned as _,
    rig::{LEASE_TTL, Rig, aside, bytes, completed, eventually},
};

#[actix::test]
async fn a_lease_is_not_spent_after_its_validity() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 100);
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.ledger.script.set_down(true);
    rig.acquire(&right, Demand::Whole).await.expect("the lease is valid").settle(completed(100));
    rig.clock.advance(LEASE_TTL);
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
    rig.ledger.script.set_down(false);
    let heartbeats = rig.ledger.script.calls("heartbeat").len();
    eventually("the node sends a heartbeat again", || rig.ledger.script.calls("heartbeat").len() > heartbeats + 1)
        .await;
    rig.acquire(&right, Demand::Whole).await.expect("the lease is valid again").settle(completed(100));
    rig.end_alone().await;
}

#[actix::test]
async fn a_fenced_node_forfeits_its_leases_and_goes_on_under_a_new_epoch() {
    for mode in [LostLease::Charge, LostLease::Release] {
        let rig = Rig::start().await;
        let right = rig.receipt(bytes(10_000), 100);
        let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
        let old = rig.ledger.epoch(rig.id).expect("known");
        rig.ledger.script.set_down(true);
        rig.clock.advance(LEASE_TTL);
        rig.ledger.script.set_down(false);
        rig.ledger.stop_changes(rig.id);
        rig.ledger.reclaim_all(mode).await;
        eventually("the node has a new epoch", || rig.ledger.epoch(rig.id).is_some_and(|epoch| epoch > old)).await;
        // The old stream settles under its old epoch, the new one leases under the new one.
        rig.acquire(&right, Demand::Whole).await.expect("let in again").settle(completed(100));
        running.settle(completed(60));
        rig.settled().await;
        eventually("only sent bytes are charged", || rig.ledger.hour(right.id, rig.now()).0.bytes == 160).await;
        rig.end_alone().await;
    }
}

#[actix::test]
async fn a_lost_lease_is_charged_until_its_node_has_settled_and_then_what_it_sent_alone() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(10_000), 100);
    let (first, second) =
        (rig.acquire(&right, Demand::Whole).await.expect("in"), rig.acquire(&right, Demand::Whole).await.expect("in"));
    let leased: u64 = rig.ledger.leased().iter().map(|lease| lease.bytes).sum();
    let charged = || rig.ledger.hour(right.id, rig.now()).0.bytes;
    let old = rig.ledger.epoch(rig.id).expect("known");
    rig.ledger.script.next("close", [Fault::Unavailable, Fault::AnswerLost]);
    rig.ledger.stop_changes(rig.id);
    rig.ledger.reclaim_all(LostLease::Charge).await;
    eventually("the node has a new epoch", || rig.ledger.epoch(rig.id).is_some_and(|epoch| epoch > old)).await;
    first.settle(completed(60));
    rig.settled_but(1).await;
    assert!(rig.node.usage.flush(Duration::from_secs(30)).await, "its row is settled");
    assert_eq!(charged(), leased, "the other stream may still send");
    assert!(rig.ledger.script.calls("close").is_empty());
    second.settle(completed(40));
    rig.settled().await;
    eventually("what was not sent is taken back", || charged() == 100).await;
    eventually("the ledger has answered", || rig.ledger.script.calls("close").len() >= 3).await;
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.settled().await;
    assert_eq!(charged(), 200);
    rig.end_alone().await;
}

#[actix::test]
async fn a_lease_of_a_reclaimed_epoch_that_arrives_late_is_not_spent() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(100), 100);
    let old = rig.ledger.epoch(rig.id).expect("known");
    let held = rig.ledger.script.hold("refill");
    let asking = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    eventually("a lease is taken, and its answer is held back", || !rig.ledger.leased().is_empty()).await;
    rig.ledger.stop_changes(rig.id);
    rig.ledger.reclaim_all(LostLease::Charge).await;
    eventually("the node has a new epoch", || rig.ledger.epoch(rig.id).is_some_and(|epoch| epoch > old)).await;
    drop(held);
    // The late lease itself is not spent. Whether the stream gets another depends on whether the charge is taken back by then.
    match asking.await.expect("answered") {
        Ok(reservation) => drop(reservation),
        Err(refusal) => assert!(matches!(refusal, Refusal::Quota { remaining: 0, .. }), "{refusal:?}"),
    }
    eventually("nothing was sent", || rig.ledger.hour(right.id, rig.now()).0.bytes == 0).await;
    rig.end_alone().await;
}

#[actix::test]
async fn a_fence_that_a_refill_meets_is_answered_by_a_new_epoch_at_once() {
    // No heartbeat would come in time: the refill itself has to wake the heartbeat.
    let rig = Rig::with(|settings| settings.heartbeat = Duration::from_secs(3600)).await;
    let right = rig.receipt(bytes(1000), 100);
    let old = rig.ledger.epoch(rig.id).expect("known");
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.settled().await;
    rig.ledger.stop_changes(rig.id);
    rig.ledger.reclaim_all(LostLease::Release).await;
    let other = rig.receipt(bytes(1000), 100);
    assert!(matches!(rig.acquire(&other, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
    eventually("the node has a new epoch", || rig.ledger.epoch(rig.id).is_some_and(|epoch| epoch > old)).await;
    rig.acquire(&other, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.end_alone().await;
}

#[actix::test]
async fn a_node_whose_clock_was_set_back_finds_an_epoch_of_its_own() {
    let rig = Rig::start().await;
    // In an earlier epoch, which is over, the clock was a year ahead.
    let year = 365 * 86_400 * 1_000_000;
    let ahead = NodeEpoch { node: rig.id, epoch: rig.now().as_microsecond() + year };
    rig.ledger.heartbeat(ahead, Duration::ZERO).await.expect("known");
    eventually("the node is past it", || rig.ledger.epoch(rig.id).is_some_and(|epoch| epoch > ahead.epoch)).await;
    let right = rig.receipt(bytes(1000), 100);
    eventually_let_in(&rig, &right).await;
    assert!(rig.ledger.script.calls("heartbeat").len() < 10_000, "it does not count up one by one");
    rig.end_alone().await;
}

/// The first question after a fence may still be refused because of it.
async fn eventually_let_in(rig: &Rig, right: &crate::rig::Right) {
    for _ in 0..1000 {
        match rig.acquire(right, Demand::Whole).await {
            Ok(reservation) => return reservation.settle(completed(right.size)),
            Err(Refusal::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
    panic!("never let in");
}

#[actix::test]
async fn a_question_that_meets_the_end_of_the_hour_is_asked_again() {
    let rig = Rig::with(|settings| settings.lease_ttl = Duration::from_secs(7200)).await;
    let right = rig.receipt(bytes(1000), 100);
    rig.clock.advance(Duration::from_secs(1799));
    let held = rig.ledger.script.hold("refill");
    let asking = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    eventually("a lease of this hour is taken", || !rig.ledger.leased().is_empty()).await;
    rig.clock.advance(Duration::from_secs(1));
    drop(held);
    let reservation = asking.await.expect("answered").expect("the new hour has room");
    reservation.settle(completed(100));
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(100, 1), "charged to the hour it started in");
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_over_the_end_of_the_hour_is_charged_to_the_hour_it_started_in() {
    let rig = Rig::with(|settings| settings.lease_ttl = Duration::from_secs(7200)).await;
    let right = rig.receipt(bytes(1000), 100);
    let began = rig.now();
    let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
    rig.clock.advance(Duration::from_secs(1800));
    rig.acquire(&right, Demand::Whole).await.expect("a new hour").settle(completed(100));
    running.settle(completed(40));
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, began).0, Credit::new(40, 1));
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(100, 1));
    rig.end_alone().await;
}

#[actix::test]
async fn a_refill_whose_answer_was_lost_never_lets_more_in_than_the_limit() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(100), 100);
    rig.ledger.script.next("refill", [Fault::AnswerLost]);
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
    let only = rig.acquire(&right, Demand::Whole).await.expect("the repeated refill gets the original grant");
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Quota { .. })));
    only.settle(completed(100));
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_ends_when_its_lease_may_have_been_given_to_others() {
    for mode in [LostLease::Release, LostLease::Charge] {
        let rig = Rig::with(|settings| settings.quota.lost_lease = mode).await;
        let right = rig.receipt_to(bytes(1 << 30), vec![7; 300_000]);
        let mut delivery = rig.deliver(&right).await;
        let first = delivery.next().await.expect("a piece").expect("readable").len() as u64;
        // The ledger does not answer, so the node cannot learn whether the lease was reclaimed.
        rig.ledger.script.set_down(true);
        rig.clock.advance(LEASE_TTL);
        let next = delivery.next().await.expect("a piece, or an error");
        match mode {
            LostLease::Release => assert!(matches!(next, Err(DeliveryError::LeaseLost)), "{next:?}"),
            LostLease::Charge => assert!(next.is_ok(), "everything that it may send was charged"),
        }
        drop(delivery);
        rig.ledger.script.set_down(false);
        rig.settled().await;
        let row = rig.ledger.rows().pop().expect("one stream");
        if mode == LostLease::Release {
            assert_eq!((row.bytes_sent, row.outcome), (first, Outcome::Failed));
            assert_eq!(rig.node.quota.counters().cut.load(SeqCst), 1);
        }
        rig.end().await;
    }
}

#[actix::test]
async fn streams_of_a_fenced_epoch_end_and_later_ones_do_not() {
    for mode in [LostLease::Charge, LostLease::Release] {
        Box::pin(streams_of_a_fenced_epoch_end(mode)).await;
    }
}

async fn streams_of_a_fenced_epoch_end(mode: LostLease) {
    let rig = Rig::with(|settings| settings.quota.lost_lease = mode).await;
    let right = rig.receipt(bytes(10_000), 100);
    let free = rig.receipt(QuotaPolicy::default(), 100);
    let old = rig.ledger.epoch(rig.id).expect("known");
    let (running, unlimited) =
        (rig.acquire(&right, Demand::Whole).await.expect("in"), rig.acquire(&free, Demand::Whole).await.expect("in"));
    rig.ledger.stop_changes(rig.id);
    rig.ledger.reclaim_all(mode).await;
    eventually("the node has a new epoch", || rig.ledger.epoch(rig.id).is_some_and(|epoch| epoch > old)).await;
    eventually("the stream is told", || running.grant().revocation.is_raised()).await;
    assert!(running.lost_its_lease());
    eventually_let_in(&rig, &right).await;
    let later = rig.acquire(&right, Demand::Whole).await.expect("the new epoch has a lease");
    assert!(!later.lost_its_lease() && !later.grant().revocation.is_raised());
    assert!(!unlimited.lost_its_lease() && !unlimited.grant().revocation.is_raised(), "it has no lease to lose");
    drop((running, later, unlimited));
    rig.end_alone().await;
}

#[actix::test]
async fn a_node_that_meets_a_namesake_takes_no_more_leases_and_gives_back_what_it_holds() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(10_000), 100);
    let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
    let namesake = NodeEpoch { node: rig.id, epoch: rig.now().as_microsecond() + 1_000_000 };
    rig.ledger.heartbeat(namesake, LEASE_TTL).await.expect("another process of this identity");
    eventually("they meet", || rig.node.has_namesake()).await;
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
    assert_eq!(rig.ledger.epoch(rig.id), Some(namesake.epoch), "it does not take an epoch after the other process's");
    running.settle(completed(60));
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(60, 1), "the sent bytes are charged, and no more");
    rig.end_alone().await;
}
