//! The promises of a [`ReplayGuard`].

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::{PART, TTL};
use crate::ports::{PortError, ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms};

pub(super) async fn run(state: &dyn ReplayGuard, advance: &impl AsyncFn(Duration)) {
    of_many_concurrent_uses_exactly_one_is_the_first(state).await;
    what_is_stale_or_lies_ahead_is_not_used(state).await;
    a_use_is_remembered_as_long_as_it_is_fresh(state, advance).await;
    a_longer_window_does_not_bring_back_what_was_used(state, advance).await;
    what_was_made_before_the_state_is_forgotten_not_first(state).await;
    a_full_replay_guard_accepts_no_new_request(state).await;
}

/// No clock is ahead, so that a state that has just begun remembers every use made after its start.
const TERMS: ReplayTerms = ReplayTerms { window: TTL, ahead: Duration::ZERO, uses: 10_000 };

/// A use made now, by the state's clock.
async fn made_now(state: &dyn ReplayGuard) -> ReplayKey {
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

async fn of_many_concurrent_uses_exactly_one_is_the_first(state: &dyn ReplayGuard) {
    let (once, other) = (made_now(state).await, made_now(state).await);
    let answers = join_all((0..50).map(async |_| state.check_replay(once, TERMS).await.expect("asked"))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == ReplayCheck::First).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, ReplayCheck::First | ReplayCheck::Again)), "{answers:?}");
    assert_eq!(state.check_replay(other, TERMS).await.expect("asked"), ReplayCheck::First);
}

async fn what_is_stale_or_lies_ahead_is_not_used(state: &dyn ReplayGuard) {
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

async fn a_use_is_remembered_as_long_as_it_is_fresh(state: &dyn ReplayGuard, advance: &impl AsyncFn(Duration)) {
    let once = made_now(state).await;
    assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::First);
    advance(PART).await;
    assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::Again);
    advance(PART).await;
    assert!(matches!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::Stale(_)));
}

async fn a_longer_window_does_not_bring_back_what_was_used(state: &dyn ReplayGuard, advance: &impl AsyncFn(Duration)) {
    let once = made_now(state).await;
    assert_eq!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::First);
    advance(PART * 2).await;
    assert!(matches!(state.check_replay(once, TERMS).await.expect("asked"), ReplayCheck::Stale(_)));
    let longer = ReplayTerms { window: TTL * 100, ..TERMS };
    assert!(matches!(state.check_replay(once, longer).await.expect("asked"), ReplayCheck::Stale(_)));
}

async fn what_was_made_before_the_state_is_forgotten_not_first(state: &dyn ReplayGuard) {
    let long = ReplayTerms { window: Duration::from_hours(24 * 1000), ..TERMS };
    let now = made_now(state).await;
    let before = ReplayKey { made_at: now.made_at - Duration::from_hours(24 * 500), ..now };
    for _ in 0..2 {
        assert!(matches!(state.check_replay(before, long).await.expect("asked"), ReplayCheck::Forgotten(_)));
    }
}

async fn a_full_replay_guard_accepts_no_new_request(state: &dyn ReplayGuard) {
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
