//! The promises of [`StreamSlots`].

use std::time::Duration;

use futures::future::join_all;

use super::{PART, TTL};
use crate::{
    ids::{ReceiptId, UsageId},
    model::SessionMark,
    ports::{SlotGrant, StreamSlot, StreamSlots},
};

pub(super) async fn run(state: &dyn StreamSlots, advance: &impl AsyncFn(Duration)) {
    slots_are_taken_up_to_the_limit_and_given_back(state).await;
    taking_a_slot_again_takes_no_second_one(state).await;
    receipts_do_not_share_slots(state).await;
    concurrent_requests_get_as_many_slots_as_the_limit_allows(state).await;
    a_lowered_limit_refuses_new_streams_and_cuts_no_running_one(state).await;
    a_refusal_names_the_oldest_stream_of_the_same_session(state).await;
    a_slot_without_refreshes_frees_itself(state, advance).await;
    a_refresh_brings_no_slot_back(state, advance).await;
}

async fn slots_are_taken_up_to_the_limit_and_given_back(state: &dyn StreamSlots) {
    let receipt = ReceiptId::random();
    let slots = [0; 3].map(|_| slot(receipt));
    assert_eq!(take(state, &slots[0], 2).await, SlotGrant::Taken);
    assert_eq!(take(state, &slots[1], 2).await, SlotGrant::Taken);
    assert_eq!(take(state, &slots[2], 2).await, full(2));
    assert_eq!(count(state, receipt).await, 2);
    state.release_slot(&slots[0]).await.expect("released");
    state.release_slot(&slots[0]).await.expect("giving back a free slot succeeds");
    assert_eq!(count(state, receipt).await, 1);
    assert_eq!(take(state, &slots[2], 2).await, SlotGrant::Taken);
    for slot in &slots {
        state.release_slot(slot).await.expect("released");
    }
    assert_eq!(count(state, receipt).await, 0);
}

async fn taking_a_slot_again_takes_no_second_one(state: &dyn StreamSlots) {
    let slot = slot(ReceiptId::random());
    assert_eq!(take(state, &slot, 1).await, SlotGrant::Taken);
    assert_eq!(take(state, &slot, 1).await, SlotGrant::Taken);
    assert_eq!(count(state, slot.receipt).await, 1);
}

async fn receipts_do_not_share_slots(state: &dyn StreamSlots) {
    let slots = [0; 3].map(|_| slot(ReceiptId::random()));
    assert_eq!(take(state, &slots[0], 1).await, SlotGrant::Taken);
    assert_eq!(take(state, &slots[1], 1).await, SlotGrant::Taken);
    assert_eq!(take(state, &slots[2], 0).await, full(0));
}

async fn concurrent_requests_get_as_many_slots_as_the_limit_allows(state: &dyn StreamSlots) {
    let receipt = ReceiptId::random();
    let slots: Vec<_> = (0..100).map(|_| slot(receipt)).collect();
    let answers = join_all(slots.iter().map(|slot| take(state, slot, 10))).await;
    let taken = answers.iter().filter(|slot| **slot == SlotGrant::Taken).count();
    assert_eq!(taken, 10, "{answers:?}");
    assert_eq!(count(state, receipt).await, 10);
}

async fn a_lowered_limit_refuses_new_streams_and_cuts_no_running_one(state: &dyn StreamSlots) {
    let receipt = ReceiptId::random();
    let running = slot(receipt);
    assert_eq!(take(state, &running, 2).await, SlotGrant::Taken);
    assert_eq!(take(state, &slot(receipt), 2).await, SlotGrant::Taken);
    assert_eq!(take(state, &slot(receipt), 1).await, full(2));
    assert_eq!(take(state, &running, 1).await, SlotGrant::Taken);
    assert_eq!(count(state, receipt).await, 2);
}

async fn a_refusal_names_the_oldest_stream_of_the_same_session(state: &dyn StreamSlots) {
    let receipt = ReceiptId::random();
    let other = slot(receipt);
    let [older, newer, asking] =
        [0; 3].map(|_| StreamSlot { session: SessionMark::from_bytes([7; 16]), ..slot(receipt) });
    for slot in [&other, &newer, &older] {
        assert_eq!(take(state, slot, 3).await, SlotGrant::Taken);
    }
    let named =
        |stream: Option<&StreamSlot>| SlotGrant::Full { active: 3, same_session: stream.map(|slot| slot.stream) };
    assert_eq!(take(state, &asking, 3).await, named(Some(&older)));
    assert_eq!(take(state, &slot(receipt), 3).await, named(None), "another session");
    let elsewhere = StreamSlot { receipt: ReceiptId::random(), ..asking };
    assert_eq!(take(state, &elsewhere, 0).await, full(0), "another receipt");
    state.release_slot(&older).await.expect("released");
    assert_eq!(take(state, &asking, 3).await, SlotGrant::Taken);
}

async fn a_slot_without_refreshes_frees_itself(state: &dyn StreamSlots, advance: &impl AsyncFn(Duration)) {
    let receipt = ReceiptId::random();
    let (alive, lost) = (slot(receipt), slot(receipt));
    assert_eq!(take(state, &alive, 2).await, SlotGrant::Taken);
    assert_eq!(take(state, &lost, 2).await, SlotGrant::Taken);
    advance(PART).await;
    state.refresh_slots(&[alive], TTL).await.expect("refreshed");
    advance(PART).await;
    assert_eq!(count(state, receipt).await, 1);
    assert_eq!(take(state, &slot(receipt), 2).await, SlotGrant::Taken);
    assert_eq!(take(state, &slot(receipt), 2).await, full(2));
}

async fn a_refresh_brings_no_slot_back(state: &dyn StreamSlots, advance: &impl AsyncFn(Duration)) {
    let late = slot(ReceiptId::random());
    assert_eq!(take(state, &late, 1).await, SlotGrant::Taken);
    advance(TTL + PART).await;
    assert_eq!(take(state, &slot(late.receipt), 1).await, SlotGrant::Taken);
    let unknown = slot(ReceiptId::random());
    state.refresh_slots(&[late, unknown], TTL).await.expect("refreshed");
    assert_eq!(count(state, late.receipt).await, 1);
    assert_eq!(count(state, unknown.receipt).await, 0);
}

/// The slot of a new stream of a session of its own.
fn slot(receipt: ReceiptId) -> StreamSlot {
    let stream = UsageId::next();
    StreamSlot { receipt, stream, session: SessionMark::from_bytes(stream.as_uuid().into_bytes()) }
}

const fn full(active: u32) -> SlotGrant {
    SlotGrant::Full { active, same_session: None }
}

async fn take(state: &dyn StreamSlots, slot: &StreamSlot, limit: u32) -> SlotGrant {
    state.take_slot(slot, limit, TTL).await.expect("asked")
}

async fn count(state: &dyn StreamSlots, receipt: ReceiptId) -> u32 {
    state.slots(receipt).await.expect("counted")
}
