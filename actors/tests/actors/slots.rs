//! Stream slots: one per stream, given back on every path, counted on this instance when the shared state is down.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use penstock_actors::{
    content::delivery::{DeliveryError, DeliveryPlan},
    ids::UsageId,
    model::{Outcome, SessionMark, StreamSession},
    ports::{InvalidationBus as _, StreamSlot, StreamSlots as _, Tag},
    quota::{book::Demand, refusal::Refusal},
    testkit::{connection::TestConnection, script::Fault},
};

use crate::{
    quota::Owned as _,
    rig::{Rig, aborted, alone, aside, completed, eventually, streams},
};

#[actix::test]
async fn a_receipt_has_as_many_streams_as_its_policy_allows() {
    let rig = Rig::start().await;
    let right = rig.receipt(streams(2), 10);
    let first = rig.acquire(&right, Demand::Whole).await.expect("the first");
    let second = rig.acquire(&right, Demand::Whole).await.expect("the second");
    let refusal = rig.acquire(&right, Demand::Whole).await.err();
    assert_eq!(refusal, Some(Refusal::TooManyStreams { limit: 2, active: 2 }));
    first.settle(completed(10));
    eventually("its slot is free", || rig.shared.slots_taken() == 1).await;
    let third = rig.acquire(&right, Demand::Whole).await.expect("a slot is free");
    drop(second);
    third.settle(aborted(3));
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 2, "refused and dropped ones are not charged");
    rig.end_alone().await;
}

#[actix::test]
async fn a_slot_is_free_before_the_settlement_when_the_last_piece_is_out() {
    let rig = Rig::start().await;
    let right = rig.receipt(streams(1), 10);
    let mut ending = rig.acquire(&right, Demand::Whole).await.expect("let in");
    ending.release_slot();
    let next = rig.acquire(&right, Demand::Whole).await.expect("the slot is free at once");
    ending.settle(completed(10));
    rig.settled_but(1).await;
    assert_eq!(rig.shared.slots_taken(), 1, "the settlement does not free the slot of another");
    next.settle(completed(10));
    rig.end_alone().await;
}

#[actix::test]
async fn a_slot_without_its_requester_is_released() {
    let rig = Rig::start().await;
    let right = rig.receipt(streams(1), 10);
    let held = rig.shared.script.hold("take_slot");
    let asking = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    eventually("the slot is taken, and the answer held back", || rig.shared.slots_taken() == 1).await;
    asking.abort();
    assert!(asking.await.err().is_some_and(|error| error.is_cancelled()));
    drop(held);
    eventually("the slot is free", || rig.shared.slots_taken() == 0).await;
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(10));
    rig.end_alone().await;
}

#[actix::test]
async fn without_the_shared_state_streams_go_on_and_this_node_counts_alone() {
    let rig = Rig::start().await;
    let right = rig.receipt(streams(2), 10);
    let before = rig.acquire(&right, Demand::Whole).await.expect("with a slot");
    rig.shared.script.set_down(true);
    let alone = rig.acquire(&right, Demand::Whole).await.expect("without one");
    let refusal = rig.acquire(&right, Demand::Whole).await.err();
    assert_eq!(refusal, Some(Refusal::TooManyStreams { limit: 2, active: 2 }));
    alone.settle(completed(10));
    rig.settled_but(1).await;
    rig.acquire(&right, Demand::Whole).await.expect("one has ended").settle(completed(10));
    rig.settled_but(1).await;
    rig.shared.script.set_down(false);
    rig.acquire(&right, Demand::Whole).await.expect("the state is back").settle(completed(10));
    before.settle(completed(10));
    rig.end_alone().await;
}

#[actix::test]
async fn a_slot_that_could_not_be_released_harms_no_settlement() {
    let rig = Rig::start().await;
    let right = rig.receipt(streams(1), 10);
    rig.shared.script.next("release_slot", [Fault::AnswerLost]);
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(10));
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 1);
    rig.end_alone().await;
}

/// Longer than a piece, so that a stream of it can be cut.
const LONG: u64 = 1 << 20;

#[actix::test]
async fn a_newer_stream_of_a_session_takes_the_slot_of_the_older_one() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(streams(1), vec![7_u8; LONG as usize]);
    let (session, connection) = (alone(), TestConnection::new());
    let older = rig.acquire_in(session, &right, Demand::Whole).await.expect("the first");
    let mut older = rig.open_to(&connection, older, DeliveryPlan::single(0..LONG)).await.expect("readable");
    let piece = older.next().await.expect("more").expect("readable").len() as u64;
    connection.hold_back(1000);
    let newer = rig.acquire_in(session, &right, Demand::Whole).await.expect("it takes the slot");
    assert!(connection.is_cut(), "before the newer one begins");
    assert_eq!(rig.shared.slots_taken(), 1);
    assert!(matches!(older.next().await, Some(Err(DeliveryError::Replaced))));
    rig.settled_but(1).await;
    assert_eq!(rig.shared.slots_taken(), 1, "the end of the older one does not free the slot of the newer one");
    drop(older);
    newer.settle(completed(LONG));
    rig.settled().await;
    let mut rows: Vec<_> = rig.ledger.rows().iter().map(|row| (row.bytes_sent, row.outcome)).collect();
    rows.sort_by_key(|row| row.0);
    assert_eq!(rows, [(piece - 1000, Outcome::Aborted), (LONG, Outcome::Completed)]);
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_of_another_session_ends_none() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(streams(1), vec![7_u8; LONG as usize]);
    let connection = TestConnection::new();
    let running = rig.acquire(&right, Demand::Whole).await.expect("the first");
    let mut running = rig.open_to(&connection, running, DeliveryPlan::single(0..LONG)).await.expect("readable");
    running.next().await.expect("more").expect("readable");
    let refusal = rig.acquire(&right, Demand::Whole).await.err();
    assert_eq!(refusal, Some(Refusal::TooManyStreams { limit: 1, active: 1 }));
    let other = rig.receipt(streams(0), LONG);
    assert!(rig.acquire(&other, Demand::Whole).await.is_err(), "another receipt");
    assert!(!connection.is_cut());
    while running.next().await.transpose().expect("readable").is_some() {}
    drop(running);
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_that_has_sent_nothing_ends_when_its_slot_is_taken() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(streams(1), vec![7_u8; LONG as usize]);
    let session = alone();
    let older = rig.acquire_in(session, &right, Demand::Whole).await.expect("the first");
    let mut older = rig.deliver_plan(older, DeliveryPlan::single(0..LONG)).await;
    let newer = rig.acquire_in(session, &right, Demand::Whole).await.expect("it takes the slot");
    assert!(matches!(older.next().await, Some(Err(DeliveryError::Replaced))));
    drop(older);
    newer.settle(completed(LONG));
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 1, "nothing was sent, so nothing is charged");
    rig.end_alone().await;
}

#[actix::test]
async fn of_a_storm_of_one_session_one_stream_is_left_and_all_others_are_told() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(streams(1), vec![7_u8; LONG as usize]);
    let session = alone();
    let answers = join_all((0..40).map(|_| rig.acquire_in(session, &right, Demand::Whole))).await;
    assert_eq!(rig.shared.slots_taken(), 1);
    let (admitted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let running: Vec<_> = admitted.into_iter().flatten().filter(|stream| !stream.lost_its_slot()).collect();
    assert_eq!(running.len(), 1);
    let refused: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
    assert!(refused.iter().all(|refusal| *refusal == Refusal::TooManyStreams { limit: 1, active: 1 }), "{refused:?}");
    drop(running);
    rig.end_alone().await;
}

#[actix::test]
async fn where_the_message_is_lost_the_newer_stream_is_refused_and_the_older_one_goes_on() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(streams(1), vec![7_u8; LONG as usize]);
    // The slot of an instance that hears no message.
    let session = SessionMark::from_bytes([7; 16]);
    let elsewhere = Arc::clone(&rig.shared);
    let slot = StreamSlot { receipt: right.id, stream: UsageId::next(), session };
    elsewhere.take_slot(&slot, 1, Duration::from_secs(60)).await.expect("taken");
    let mut told = elsewhere.invalidations();
    let refusal = rig.acquire_in(StreamSession::Unnamed(session), &right, Demand::Whole).await.err();
    assert_eq!(refusal, Some(Refusal::TooManyStreams { limit: 1, active: 1 }));
    assert_eq!(told.try_recv().expect("told"), Tag::EndStream(slot.stream));
    elsewhere.release_slot(&slot).await.expect("released");
    rig.end_alone().await;
}
