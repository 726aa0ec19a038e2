//! The promises of [`StreamSlots`].

use std::time::Duration;

use futures::future::join_all;

use super::{PART, TTL};
use crate::{
    ids::{ReceiptId, UsageId},
    ports::{SlotGrant, StreamSlots},
};

pub(super) async fn run(state: &dyn StreamSlots, advance: &impl AsyncFn(Duration)) {
    slots_are_taken_up_to_the_limit_and_given_back(state).await;
    taking_a_slot_again_takes_no_second_one(state).await;
    receipts_do_not_share_slots(state).await;
    concurrent_requests_get_as_many_slots_as_the_limit_allows(state).await;
    a_lowered_limit_refuses_new_streams_and_cuts_no_running_one(state).await;
    a_slot_without_refreshes_frees_itself(state, advance).await;
    a_refresh_brings_no_slot_back(state, advance).await;
}

async fn slots_are_taken_up_to_the_limit_and_given_back(state: &dyn StreamSlots) {
    let (receipt, streams) = (ReceiptId::random(), [UsageId::next(), UsageId::next(), UsageId::next()]);
    assert_eq!(take(state, receipt, streams[0], 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, streams[1], 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, streams[2], 2).await, SlotGrant::Full(2));
    assert_eq!(slots(state, receipt).await, 2);
    state.release_slot(receipt, streams[0]).await.expect("released");
    state.release_slot(receipt, streams[0]).await.expect("giving back a free slot succeeds");
    assert_eq!(slots(state, receipt).await, 1);
    assert_eq!(take(state, receipt, streams[2], 2).await, SlotGrant::Taken);
    for stream in streams {
        state.release_slot(receipt, stream).await.expect("released");
    }
    assert_eq!(slots(state, receipt).await, 0);
}

async fn taking_a_slot_again_takes_no_second_one(state: &dyn StreamSlots) {
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(state, receipt, stream, 1).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, stream, 1).await, SlotGrant::Taken);
    assert_eq!(slots(state, receipt).await, 1);
}

async fn receipts_do_not_share_slots(state: &dyn StreamSlots) {
    let (one, other) = (ReceiptId::random(), ReceiptId::random());
    assert_eq!(take(state, one, UsageId::next(), 1).await, SlotGrant::Taken);
    assert_eq!(take(state, other, UsageId::next(), 1).await, SlotGrant::Taken);
    assert_eq!(take(state, ReceiptId::random(), UsageId::next(), 0).await, SlotGrant::Full(0));
}

async fn concurrent_requests_get_as_many_slots_as_the_limit_allows(state: &dyn StreamSlots) {
    let receipt = ReceiptId::random();
    let answers = join_all((0..100).map(|_| take(state, receipt, UsageId::next(), 10))).await;
    let taken = answers.iter().filter(|slot| **slot == SlotGrant::Taken).count();
    assert_eq!(taken, 10, "{answers:?}");
    assert_eq!(slots(state, receipt).await, 10);
}

async fn a_lowered_limit_refuses_new_streams_and_cuts_no_running_one(state: &dyn StreamSlots) {
    let (receipt, running) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(state, receipt, running, 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, UsageId::next(), 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, UsageId::next(), 1).await, SlotGrant::Full(2));
    assert_eq!(take(state, receipt, running, 1).await, SlotGrant::Taken);
    assert_eq!(slots(state, receipt).await, 2);
}

async fn a_slot_without_refreshes_frees_itself(state: &dyn StreamSlots, advance: &impl AsyncFn(Duration)) {
    let (receipt, alive, lost) = (ReceiptId::random(), UsageId::next(), UsageId::next());
    assert_eq!(take(state, receipt, alive, 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, lost, 2).await, SlotGrant::Taken);
    advance(PART).await;
    state.refresh_slots(&[(receipt, alive)], TTL).await.expect("refreshed");
    advance(PART).await;
    assert_eq!(slots(state, receipt).await, 1);
    assert_eq!(take(state, receipt, UsageId::next(), 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, UsageId::next(), 2).await, SlotGrant::Full(2));
}

async fn a_refresh_brings_no_slot_back(state: &dyn StreamSlots, advance: &impl AsyncFn(Duration)) {
    let (receipt, late) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(state, receipt, late, 1).await, SlotGrant::Taken);
    advance(TTL + PART).await;
    assert_eq!(take(state, receipt, UsageId::next(), 1).await, SlotGrant::Taken);
    let unknown = (ReceiptId::random(), UsageId::next());
    state.refresh_slots(&[(receipt, late), unknown], TTL).await.expect("refreshed");
    assert_eq!(slots(state, receipt).await, 1);
    assert_eq!(slots(state, unknown.0).await, 0);
}

async fn take(state: &dyn StreamSlots, receipt: ReceiptId, stream: UsageId, limit: u32) -> SlotGrant {
    state.take_slot(receipt, stream, limit, TTL).await.expect("asked")
}

async fn slots(state: &dyn StreamSlots, receipt: ReceiptId) -> u32 {
    state.slots(receipt).await.expect("counted")
}
