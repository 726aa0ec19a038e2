//! The promises of every [`SharedState`].
//!
//! Times to live are short and in whole seconds, because a store with a clock of its own can only be waited for.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;

use crate::{
    ids::{ContentHash, ReceiptId, SessionId, UsageId, VersionId},
    model::{Session, SessionProgress},
    ports::{PortError, ReplayCheck, ReplayKey, ReplayTerms, SharedState, SlotGrant, Tag},
};

const TTL: Duration = Duration::from_secs(3);
/// Less than [`TTL`]; twice this is more.
const PART: Duration = Duration::from_secs(2);

/// Runs the whole suite. `advance` lets time pass: it moves the clock that the state was given, or waits.
///
/// # Panics
/// When a promise is broken.
pub async fn run(state: Arc<dyn SharedState>, advance: impl AsyncFn(Duration)) {
    let (state, advance) = (&*state, &advance);
    state.ping().await.expect("a fresh state answers");
    slots_are_taken_up_to_the_limit_and_given_back(state).await;
    taking_a_slot_again_takes_no_second_one(state).await;
    receipts_do_not_share_slots(state).await;
    of_many_who_ask_at_once_as_many_get_a_slot_as_there_are(state).await;
    a_lowered_limit_refuses_but_cuts_nobody_off(state).await;
    a_slot_that_nobody_refreshes_frees_itself(state, advance).await;
    a_refresh_brings_no_slot_back(state, advance).await;
    a_session_is_found_until_its_time_is_over(state, advance).await;
    progress_adds_up_and_keeps_a_session_alive(state, advance).await;
    what_many_streams_add_at_once_is_all_there(state).await;
    of_many_who_use_a_thing_one_is_the_first(state).await;
    what_is_stale_or_lies_ahead_is_not_used(state).await;
    a_use_is_remembered_as_long_as_it_is_fresh(state, advance).await;
    a_longer_window_does_not_bring_back_what_was_used(state, advance).await;
    what_was_made_before_the_state_is_forgotten_not_first(state).await;
    without_room_nobody_is_the_first(state).await;
    what_is_invalidated_reaches_every_listener_in_order(state).await;
    a_listener_that_falls_behind_is_told(state).await;
}

async fn slots_are_taken_up_to_the_limit_and_given_back(state: &dyn SharedState) {
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

async fn taking_a_slot_again_takes_no_second_one(state: &dyn SharedState) {
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(state, receipt, stream, 1).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, stream, 1).await, SlotGrant::Taken);
    assert_eq!(slots(state, receipt).await, 1);
}

async fn receipts_do_not_share_slots(state: &dyn SharedState) {
    let (one, other) = (ReceiptId::random(), ReceiptId::random());
    assert_eq!(take(state, one, UsageId::next(), 1).await, SlotGrant::Taken);
    assert_eq!(take(state, other, UsageId::next(), 1).await, SlotGrant::Taken);
    assert_eq!(take(state, ReceiptId::random(), UsageId::next(), 0).await, SlotGrant::Full(0));
}

async fn of_many_who_ask_at_once_as_many_get_a_slot_as_there_are(state: &dyn SharedState) {
    let receipt = ReceiptId::random();
    let answers = join_all((0..100).map(|_| take(state, receipt, UsageId::next(), 10))).await;
    let taken = answers.iter().filter(|slot| **slot == SlotGrant::Taken).count();
    assert_eq!(taken, 10, "{answers:?}");
    assert_eq!(slots(state, receipt).await, 10);
}

async fn a_lowered_limit_refuses_but_cuts_nobody_off(state: &dyn SharedState) {
    let (receipt, running) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(state, receipt, running, 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, UsageId::next(), 2).await, SlotGrant::Taken);
    assert_eq!(take(state, receipt, UsageId::next(), 1).await, SlotGrant::Full(2));
    assert_eq!(take(state, receipt, running, 1).await, SlotGrant::Taken);
    assert_eq!(slots(state, receipt).await, 2);
}

async fn a_slot_that_nobody_refreshes_frees_itself(state: &dyn SharedState, advance: &impl AsyncFn(Duration)) {
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

async fn a_refresh_brings_no_slot_back(state: &dyn SharedState, advance: &impl AsyncFn(Duration)) {
    let (receipt, late) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(state, receipt, late, 1).await, SlotGrant::Taken);
    advance(TTL + PART).await;
    assert_eq!(take(state, receipt, UsageId::next(), 1).await, SlotGrant::Taken);
    let unknown = (ReceiptId::random(), UsageId::next());
    state.refresh_slots(&[(receipt, late), unknown], TTL).await.expect("refreshed");
    assert_eq!(slots(state, receipt).await, 1);
    assert_eq!(slots(state, unknown.0).await, 0);
}

async fn a_session_is_found_until_its_time_is_over(state: &dyn SharedState, advance: &impl AsyncFn(Duration)) {
    let session = session();
    assert_eq!(state.session(session.session_id).await.expect("looked"), None);
    state.put_session(&session, TTL).await.expect("kept");
    assert_eq!(state.session(session.session_id).await.expect("looked").as_ref(), Some(&session));
    advance(TTL + PART).await;
    assert_eq!(state.session(session.session_id).await.expect("looked"), None);
    let late = state.add_progress(session.session_id, 1, 1, Timestamp::UNIX_EPOCH, TTL).await.expect("asked");
    assert_eq!(late, None);
}

async fn progress_adds_up_and_keeps_a_session_alive(state: &dyn SharedState, advance: &impl AsyncFn(Duration)) {
    let session = session();
    let at = Timestamp::from_second(1_800_000_000).expect("a valid time");
    state.put_session(&session, TTL).await.expect("kept");
    advance(PART).await;
    state.add_progress(session.session_id, 100, 900, at, TTL).await.expect("added");
    advance(PART).await;
    let sum = state.add_progress(session.session_id, 50, 200, at, TTL).await.expect("added");
    let expected = SessionProgress { streams: 2, bytes_delivered: 150, position: 900, last_active: Some(at) };
    assert_eq!(sum, Some(expected));
    let kept = state.session(session.session_id).await.expect("looked").expect("it was used in time");
    assert_eq!(kept, Session { progress: expected, ..session });
}

async fn what_many_streams_add_at_once_is_all_there(state: &dyn SharedState) {
    let session = session();
    let at = Timestamp::from_second(1_800_000_000).expect("a valid time");
    state.put_session(&session, TTL).await.expect("kept");
    join_all((1..=100).map(async |n| {
        let sum = state.add_progress(session.session_id, n, n, at, TTL).await.expect("added");
        assert!(sum.is_some_and(|sum| sum.bytes_delivered >= n));
    }))
    .await;
    let kept = state.session(session.session_id).await.expect("looked").expect("it is there");
    let expected = SessionProgress { streams: 100, bytes_delivered: 5050, position: 100, last_active: Some(at) };
    assert_eq!(kept.progress, expected);
}

/// No clock is ahead, so that a state that has just begun remembers every use made after its start.
const TERMS: ReplayTerms = ReplayTerms { window: TTL, ahead: Duration::ZERO, uses: 10_000 };

/// A use made now, by the state's clock.
async fn made_now(state: &dyn SharedState) -> ReplayKey {
    let never = ReplayKey { name: random_name(), made_at: Timestamp::UNIX_EPOCH };
    let ReplayCheck::Stale(made_at) = state.check_replay(never, TERMS).await.expect("asked") else {
        panic!("made in 1970")
    };
    ReplayKey { name: random_name(), made_at }
}

fn random_name() -> [u8; 32] {
    let mut name = [0; 32];
    name[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    name
}

async fn of_many_who_use_a_thing_one_is_the_first(state: &dyn SharedState) {
    let (once, other) = (made_now(state).await, made_now(state).await);
    let answers = join_all((0..50).map(async |_| state.check_replay(once, TERMS).await.expect("asked"))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == ReplayCheck::First).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, ReplayCheck::First | ReplayCheck::Again)), "{answers:?}");
    assert_eq!(state.check_replay(other, TERMS).await.expect("asked"), ReplayCheck::First);
}

async fn what_is_stale_or_lies_ahead_is_not_used(state: &dyn SharedState) {
    let now = made_now(state).await;
    let far = ReplayKey { made_at: now.made_at + TTL * 10, ..now };
    assert!(matches!(state.check_replay(far, TERMS).await.expect("asked"), ReplayCheck::Stale(_)));
    let old = ReplayKey { made_at: now.made_at - TTL, ..now };
    assert!(matches!(state.check_replay(old, TERMS).await.expect("asked"), ReplayCheck::Stale(_)));
    // Neither call has used it up.
    assert_eq!(state.check_replay(now, TERMS).await.expect("asked"), ReplayCheck::First);
    let ahead = ReplayKey { name: random_name(), ..far };
    let wider = ReplayTerms { ahead: TTL * 20, ..TERMS };
    // A state that has just begun may know nothing of a use made ahead of its clock: it may be forgotten, but not stale.
    assert!(matches!(
        state.check_replay(ahead, wider).await.expect("asked"),
        ReplayCheck::First | ReplayCheck::Forgotten(_)
    ));
}

async fn a_use_is_remembered_as_long_as_it_is_fresh(state: &dyn SharedState, advance: &impl AsyncFn(Duration)) {
    let once = made_now(state).await;
    assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::First);
    advance(PART).await;
    assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::Again);
    advance(PART).await;
    assert!(matches!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::Stale(_)));
}

async fn a_longer_window_does_not_bring_back_what_was_used(state: &dyn SharedState, advance: &impl AsyncFn(Duration)) {
    let once = made_now(state).await;
    assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::First);
    advance(PART * 2).await;
    assert!(matches!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::Stale(_)));
    let longer = ReplayTerms { window: TTL * 100, ..TERMS };
    assert!(matches!(state.check_replay(once, longer).await.expect("asked"), ReplayCheck::Stale(_)));
}

async fn what_was_made_before_the_state_is_forgotten_not_first(state: &dyn SharedState) {
    let long = ReplayTerms { window: Duration::from_hours(24 * 1000), ..TERMS };
    let now = made_now(state).await;
    let before = ReplayKey { made_at: now.made_at - Duration::from_hours(24 * 500), ..now };
    for _ in 0..2 {
        assert!(matches!(state.check_replay(before, long).await.expect("asked"), ReplayCheck::Forgotten(_)));
    }
}

async fn without_room_nobody_is_the_first(state: &dyn SharedState) {
    let narrow = ReplayTerms { uses: 16, ..TERMS };
    let (mut first, mut refused) = (0, 0);
    for _ in 0..200 {
        let once = made_now(state).await;
        match state.check_replay(once, narrow).await {
            Ok(ReplayCheck::First) => first += 1,
            Err(PortError::Unavailable { .. }) => {
                refused += 1;
                // It may be used when there is room again: the refused use was not recorded.
                assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::First);
            }
            answer => panic!("{answer:?}"),
        }
    }
    assert!(first <= 16 && refused >= 184, "{first} {refused}");
}

async fn what_is_invalidated_reaches_every_listener_in_order(state: &dyn SharedState) {
    let tags = [Tag::Receipt(ReceiptId::random()), Tag::QuotaPolicy("premium".into()), Tag::Asset(VersionId::next())];
    let mut listeners = [state.invalidations(), state.invalidations()];
    state.invalidate(&tags).await.expect("published");
    for listener in &mut listeners {
        for tag in &tags {
            assert_eq!(listener.recv().await.as_ref(), Ok(tag));
        }
    }
}

async fn a_listener_that_falls_behind_is_told(state: &dyn SharedState) {
    let mut listener = state.invalidations();
    // More than any channel should grow to.
    let tags: Vec<_> = std::iter::repeat_with(|| Tag::Receipt(ReceiptId::random())).take(100_000).collect();
    state.invalidate(&tags).await.expect("published");
    // The last tag shows that the others had time to arrive.
    let mut lagged = false;
    loop {
        match listener.recv().await {
            Err(RecvError::Lagged(_)) => lagged = true,
            Ok(tag) if Some(&tag) == tags.last() => break,
            Ok(_) => {}
            Err(RecvError::Closed) => panic!("the state is still there"),
        }
    }
    assert!(lagged, "{} tags were kept for one listener", tags.len());
}

async fn take(state: &dyn SharedState, receipt: ReceiptId, stream: UsageId, limit: u32) -> SlotGrant {
    state.take_slot(receipt, stream, limit, TTL).await.expect("asked")
}

async fn slots(state: &dyn SharedState, receipt: ReceiptId) -> u32 {
    state.slots(receipt).await.expect("counted")
}

fn session() -> Session {
    Session {
        session_id: SessionId::random(),
        receipt_id: ReceiptId::random(),
        content_hash: ContentHash::from_bytes([9; 32]),
        size_bytes: 1000,
        created_at: Timestamp::from_second(1_790_000_000).expect("a valid time"),
        progress: SessionProgress::default(),
    }
}
