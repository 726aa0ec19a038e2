//! The promises of a [`SessionStore`].

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::{PART, TTL};
use crate::{
    ids::{ContentHash, ReceiptId, SessionId},
    model::{Session, SessionProgress},
    ports::SessionStore,
};

pub(super) async fn run(state: &dyn SessionStore, advance: &impl AsyncFn(Duration)) {
    a_session_is_found_until_its_time_is_over(state, advance).await;
    progress_adds_up_and_keeps_a_session_alive(state, advance).await;
    what_many_streams_add_at_once_is_all_there(state).await;
}

async fn a_session_is_found_until_its_time_is_over(state: &dyn SessionStore, advance: &impl AsyncFn(Duration)) {
    let session = session();
    assert_eq!(state.session(session.session_id).await.expect("looked"), None);
    state.put_session(&session, TTL).await.expect("kept");
    assert_eq!(state.session(session.session_id).await.expect("looked").as_ref(), Some(&session));
    advance(TTL + PART).await;
    assert_eq!(state.session(session.session_id).await.expect("looked"), None);
    let late = state.add_progress(session.session_id, 1, 1, Timestamp::UNIX_EPOCH, TTL).await.expect("asked");
    assert_eq!(late, None);
}

async fn progress_adds_up_and_keeps_a_session_alive(state: &dyn SessionStore, advance: &impl AsyncFn(Duration)) {
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

async fn what_many_streams_add_at_once_is_all_there(state: &dyn SessionStore) {
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
