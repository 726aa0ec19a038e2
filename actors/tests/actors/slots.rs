//! Stream slots: one per stream, given back on every path, counted on this instance when the shared state is down.

use penstock_actors::{
    quota::{book::Demand, refusal::Refusal},
    testkit::script::Fault,
};

use crate::{
    quota::Owned as _,
    rig::{Rig, aborted, aside, completed, eventually, streams},
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
