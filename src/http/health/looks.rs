//! Checks of dependencies: the last known state of each.
//!
//! A check is a task of its own. It continues when the request that started it has been answered, and all requests that
//! arrive meanwhile share it, so that a dependency gets one check at a time, however many balancers poll. An answer
//! waits for a check no longer than a healthy dependency takes: a dependency that hangs is reported as slow and does
//! not delay the answer.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use penstock_actors::clock::Clock;

use super::DependencyState;

/// How long a dependency may take to answer. No request waits for that long, and an answer that takes longer helps no
/// stream.
const DEADLINE: Duration = Duration::from_secs(1);

/// A dependency that takes longer than this is degraded: a healthy one answers within a few milliseconds. An answer
/// waits for a check no longer than this either: balancers give up after a second.
pub(super) const SLOW: Duration = Duration::from_millis(250);

/// A dependency with its last known state.
#[derive(Debug, Default)]
pub(super) struct Dependency(Mutex<ProbeState>);

#[derive(Debug, Default)]
struct ProbeState {
    last: Option<ProbeResult>,
    under_way: Option<Shared<BoxFuture<'static, ()>>>,
}

/// The result of a check.
#[derive(Debug, Clone)]
struct ProbeResult {
    state: DependencyState,
    why: String,
    ended: Instant,
}

/// The state of a dependency in an answer.
#[derive(Debug, Clone)]
pub(super) struct ProbeOutcome {
    pub(super) state: DependencyState,
    /// Why it does not work as it should.
    pub(super) why: String,
    /// The time since the last check ended; `None` when none has ended yet.
    pub(super) age: Option<Duration>,
}

impl Dependency {
    /// Checks the dependency by `ping`, unless a check is under way, and waits for its end, at most [`SLOW`].
    pub(super) async fn probe<E: Display>(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        ping: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> ProbeOutcome {
        let ended = tokio::time::timeout(SLOW, self.begin(clock, ping)).await.is_ok();
        let last = self.known().last.clone();
        let age = last.as_ref().map(|last| clock.monotonic().saturating_duration_since(last.ended));
        match last {
            Some(ProbeResult { state, why, .. }) if ended || state == DependencyState::Down => {
                ProbeOutcome { state, why, age }
            }
            _ => ProbeOutcome { state: DependencyState::Degraded, why: format!("no answer within {SLOW:?} yet"), age },
        }
    }

    fn begin<E: Display>(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        ping: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Shared<BoxFuture<'static, ()>> {
        let mut known = self.known();
        // A check that ended with its thread must not prevent the next one.
        if let Some(under_way) = known.under_way.as_ref().filter(|look| look.peek().is_none()) {
            return under_way.clone();
        }
        let (this, clock) = (Arc::clone(self), Arc::clone(clock));
        let look = tokio::spawn(async move {
            let look = look_at(ping, &*clock).await;
            let mut known = this.known();
            known.last = Some(look);
            known.under_way = None;
        });
        let under_way = look.map(drop).boxed().shared();
        known.under_way = Some(under_way.clone());
        under_way
    }

    fn known(&self) -> MutexGuard<'_, ProbeState> {
        // After a panic the value is still consistent: no code between lock and unlock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look_at<E: Display>(ping: impl Future<Output = Result<(), E>>, clock: &dyn Clock) -> ProbeResult {
    let began = clock.monotonic();
    let answer = tokio::time::timeout(DEADLINE, ping).await;
    let ended = clock.monotonic();
    let (state, why) = match answer {
        Ok(Ok(())) if ended.saturating_duration_since(began) <= SLOW => (DependencyState::Ok, String::new()),
        Ok(Ok(())) => (DependencyState::Degraded, "it answers slowly".to_owned()),
        Ok(Err(error)) => (DependencyState::Down, error.to_string()),
        Err(_) => (DependencyState::Down, format!("no answer within {DEADLINE:?}")),
    };
    ProbeResult { state, why, ended }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use penstock_actors::{clock::SystemClock, ports::PortError};

    use super::*;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_hangs_is_slow_at_once_and_down_with_the_next_answer() {
        let (dependency, clock) = (Arc::<Dependency>::default(), clock());
        let hang = || dependency.probe(&clock, std::future::pending::<Result<(), PortError>>());
        let began = tokio::time::Instant::now();
        let first = hang().await;
        assert_eq!(began.elapsed(), SLOW, "the answer does not hang");
        assert_eq!((first.state, first.age), (DependencyState::Degraded, None));
        tokio::time::sleep(DEADLINE).await;
        let second = hang().await;
        assert_eq!(second.state, DependencyState::Down);
        assert!(second.age.is_some() && second.why.contains("no answer within 1s"), "{second:?}");
        let well = dependency.probe(&clock, async { Ok::<_, PortError>(()) });
        let third = well.await;
        assert_eq!(third.state, DependencyState::Down, "the look that is under way is shared");
        tokio::time::sleep(DEADLINE).await;
        assert_eq!(dependency.probe(&clock, async { Ok::<_, PortError>(()) }).await.state, DependencyState::Ok);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_a_dependency_is_asked_one_thing_at_a_time() {
        let (dependency, clock, asked) = (Arc::<Dependency>::default(), clock(), Arc::<AtomicU32>::default());
        let look = || {
            let asked = Arc::clone(&asked);
            dependency.probe(&clock, async move {
                asked.fetch_add(1, Relaxed);
                tokio::time::sleep(SLOW / 2).await;
                Ok::<_, PortError>(())
            })
        };
        let answers = futures::future::join_all((0..100).map(|_| look())).await;
        assert!(answers.iter().all(|found| found.state == DependencyState::Ok));
        assert_eq!(asked.load(Relaxed), 1);
        look().await;
        assert_eq!(asked.load(Relaxed), 2, "the next one is asked anew");
    }
}
