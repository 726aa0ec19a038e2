//! The quota cache when the ledger fails, and when the node learns of changes late.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use futures::future::join_all;
use penstock_actors::{
    ids::ReceiptId,
    model::{QuotaPolicy, ReceiptStatus},
    ports::{InvalidationBus as _, Tag},
    quota::{book::Demand, refusal::Refusal},
    testkit::script::Fault,
};

use crate::rig::{Rig, Right, alone, bytes, completed, eventually};

#[actix::test]
async fn while_the_ledger_is_down_what_is_in_memory_goes_on_and_then_everything_recovers() {
    let rig = Rig::start().await;
    let (warm, cold) = (rig.receipt(bytes(1 << 20), 100), rig.receipt(bytes(1 << 20), 100));
    rig.acquire(&warm, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.ledger.script.set_down(true);
    for _ in 0..5 {
        rig.acquire(&warm, Demand::Whole).await.expect("its lease is in memory").settle(completed(100));
        assert!(matches!(rig.acquire(&cold, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
        // After the entry's fresh time, and before the end of the lease's validity.
        rig.clock.advance(Duration::from_secs(10));
    }
    rig.ledger.script.set_down(false);
    rig.acquire(&cold, Demand::Whole).await.expect("the ledger is back").settle(completed(100));
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 7, "no usage of that time is lost");
    rig.end_alone().await;
}

#[actix::test]
async fn a_failed_round_trip_answers_every_request_that_waits_for_it() {
    let rig = Rig::with(|settings| settings.quota.shards = 1).await;
    let rights: Vec<_> = (0..40).map(|_| rig.receipt(bytes(1 << 20), 100)).collect();
    rig.ledger.script.next("refill", [Fault::Unavailable, Fault::Unavailable, Fault::Unavailable]);
    let answers = join_all(rights.iter().map(|right| rig.acquire(right, Demand::Whole))).await;
    assert!(answers.iter().flat_map(|answer| answer.as_ref().err()).all(|r| matches!(r, Refusal::Unavailable { .. })));
    drop(answers);
    for right in &rights {
        rig.ledger.script.next("refill", [None::<Fault>]);
        match rig.acquire(right, Demand::Whole).await {
            Ok(reservation) => reservation.settle(completed(100)),
            Err(refusal) => assert!(matches!(refusal, Refusal::Unavailable { .. })),
        }
    }
    rig.end_alone().await;
}

#[actix::test]
async fn a_refund_reaches_running_streams_although_the_ledger_fails_at_that_moment() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 100);
    let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
    rig.ledger.set_status(right.id, ReceiptStatus::Refunded);
    rig.ledger.script.next("refill", [Fault::Unavailable, Fault::Unavailable]);
    rig.shared.invalidate(&[Tag::Receipt(right.id)]).await.expect("published");
    eventually("the stream is revoked", || running.grant().revocation.is_raised()).await;
    drop(running);
    rig.end_alone().await;
}

#[actix::test]
async fn a_refund_whose_invalidation_was_missed_reaches_running_streams() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 100);
    let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
    rig.ledger.set_status(right.id, ReceiptStatus::Refunded);
    rig.node.quota.invalidate_all();
    eventually("the stream is revoked", || running.grant().revocation.is_raised()).await;
    drop(running);
    rig.end_alone().await;
}

#[actix::test]
async fn a_raised_limit_counts_from_the_next_request() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(100), 100);
    rig.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Quota { .. })));
    rig.ledger.set_policy(right.id, bytes(200));
    rig.node.quota.invalidate(&Tag::QuotaPolicy("bytes".into()));
    rig.acquire(&right, Demand::Whole).await.expect("fits now").settle(completed(100));
    rig.end_alone().await;
}

#[actix::test]
async fn unknown_receipts_do_not_fill_the_memory() {
    let rig = Rig::with(|settings| {
        settings.quota.shards = 2;
        settings.quota.book.entries = 50;
    })
    .await;
    let known = rig.receipt(bytes(1 << 20), 100);
    let running = rig.acquire(&known, Demand::Whole).await.expect("let in");
    for _ in 0..60 {
        let unknown = (0..100).map(|_| Right { id: ReceiptId::random(), ..known });
        let asked = unknown.map(|right| async move { right.ask(Demand::Whole) });
        let answers = join_all(asked.map(|ask| async { rig.node.quota.acquire(ask.await, alone()).await.err() })).await;
        assert!(answers.iter().all(|answer| *answer == Some(Refusal::UnknownReceipt)));
    }
    let entries = rig.node.quota.counters().entries.load(SeqCst);
    assert!(entries <= 2 * 50, "{entries} receipts in memory");
    // A receipt with a running stream is not dropped, however many come.
    running.settle(completed(100));
    rig.end_alone().await;
}

#[actix::test]
async fn a_policy_without_limits_needs_neither_lease_nor_ledger() {
    let rig = Rig::start().await;
    let right = rig.receipt(QuotaPolicy::default(), 100);
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.ledger.script.set_down(true);
    rig.clock.advance(Duration::from_secs(600));
    rig.acquire(&right, Demand::Whole).await.expect("no lease to run out").settle(completed(100));
    rig.ledger.script.set_down(false);
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0.bytes, 200);
    rig.end_alone().await;
}
