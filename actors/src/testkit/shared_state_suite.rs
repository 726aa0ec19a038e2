//! The promises of every [`SharedState`], port by port: each part of the suite is given only the port that it tests.
//!
//! Times to live are short and in whole seconds, because a store with a clock of its own can only be waited for.

mod invalidation_bus;
mod replay_guard;
mod sessions;
mod stream_slots;

use std::{sync::Arc, time::Duration};

use crate::ports::SharedState;

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
    stream_slots::run(state, advance).await;
    sessions::run(state, advance).await;
    replay_guard::run(state, advance).await;
    invalidation_bus::run(state).await;
}
