//! The breaker of a server that cannot be reached: however many calls want a connection, one attempt at a time is made.
//!
//! While attempts succeed, nothing here is in the way. After one has failed, a single call waits for a pause, which grows from
//! failure to failure, and then makes the next attempt. After the first failures the other calls wait for its outcome and share
//! it; after [`PATIENT_FOR`] of them they get the last error at once. So a server that is back is found within the longest pause,
//! one that struggles is not overrun, and a call that cannot succeed ends at once.
//!
//! **Bound.** One attempt in a pause, and one call that waits for it.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as Turn, time::Instant};

use crate::adapters::pause;

/// The pause after the first failure. Pauses double up to the longest, which is the price that a call pays during an outage, and the
/// time in which a server that is back is found.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Failures in a row after which other calls do not wait for the attempt: until then it may be a matter of one moment.
const PATIENT_FOR: u32 = 3;

/// Failures after which the pause is the longest one.
const GROWS_FOR: u32 = 8;

/// A failure that all waiting calls share.
#[derive(Debug)]
struct LastFailure<E> {
    error: Arc<E>,
    /// Failures in a row.
    failures: u32,
    next_at: Instant,
}

/// Attempts to reach one server.
#[derive(Debug)]
pub(super) struct Trial<E> {
    last: Mutex<Option<LastFailure<E>>>,
    turn: Turn<()>,
}

impl<E> Default for Trial<E> {
    fn default() -> Self {
        Self { last: Mutex::new(None), turn: Turn::new(()) }
    }
}

impl<E> Trial<E> {
    fn last(&self) -> MutexGuard<'_, Option<LastFailure<E>>> {
        // Every change under the lock is one assignment.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failures in a row; 0 when the last attempt succeeded.
    fn failures(&self) -> u32 {
        self.last().as_ref().map_or(0, |last| last.failures)
    }

    /// Makes an attempt, or shares one.
    ///
    /// # Errors
    /// The error of the attempt, which may be another call's.
    pub(super) async fn attempt<T, F>(&self, attempt: impl FnOnce() -> F) -> Result<T, Arc<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let failures = self.failures();
        let turn = match failures {
            0 => return self.note(attempt().await),
            few if few < PATIENT_FOR => Some(self.turn.lock().await),
            _ => self.turn.try_lock().ok(),
        };
        let has_turn = turn.is_some();
        let next_at = match &*self.last() {
            Some(last) if last.failures != failures || !has_turn => return Err(Arc::clone(&last.error)),
            Some(last) => Some(last.next_at),
            None => None,
        };
        let Some(next_at) = next_at else {
            drop(turn);
            return self.note(attempt().await);
        };
        tokio::time::sleep_until(next_at).await;
        self.note(attempt().await)
    }

    fn note<T>(&self, outcome: Result<T, E>) -> Result<T, Arc<E>> {
        let mut last = self.last();
        match outcome {
            Ok(reached) => {
                *last = None;
                Ok(reached)
            }
            Err(error) => {
                let failures = last.as_ref().map_or(0, |last| last.failures).saturating_add(1);
                let error = Arc::new(error);
                let next_at = Instant::now() + pause(failures);
                *last = Some(LastFailure { error: Arc::clone(&error), failures, next_at });
                Err(error)
            }
        }
    }
}

/// The pause after so many failures.
fn pause(failures: u32) -> Duration {
    pause::grown(FIRST_PAUSE, failures.min(GROWS_FOR) - 1, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_calls_during_an_outage_make_one_attempt_in_a_pause() {
        let (trial, attempts) = (Trial::<&str>::default(), AtomicU32::new(0));
        let refuse = || async {
            attempts.fetch_add(1, SeqCst);
            Err::<(), _>("refused")
        };
        trial.attempt(refuse).await.expect_err("the server is away");
        for round in 1..=10 {
            let answers = join_all((0..1000).map(|_| trial.attempt(refuse))).await;
            assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| **error == "refused")));
            assert_eq!(attempts.load(SeqCst), 1 + round);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_first_failures_one_call_waits_and_the_others_end_at_once() {
        let trial = Trial::<&str>::default();
        for failures in 1..=20 {
            trial.attempt(|| async { Err::<(), _>("refused") }).await.expect_err("the server is away");
            assert_eq!(trial.failures(), failures);
        }
        let began = Instant::now();
        let prober = trial.attempt(|| async { Ok::<_, &str>(()) });
        let other = async {
            let refused = trial.attempt(|| async { Ok::<_, &str>(()) }).await;
            (refused.is_err(), began.elapsed())
        };
        let (found, (refused, waited)) = futures::future::join(prober, other).await;
        assert!(found.is_ok() && refused && waited.is_zero(), "virtual time");
        assert!(began.elapsed() <= LONGEST_PAUSE, "virtual time");
        trial.attempt(|| async { Ok::<_, &str>(()) }).await.expect("all go on");
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_failure_all_calls_wait_for_the_next_attempt() {
        let trial = Trial::<&str>::default();
        trial.attempt(|| async { Err::<(), _>("refused") }).await.expect_err("a bad moment");
        let answers = join_all((0..100).map(|_| trial.attempt(|| async { Ok::<_, &str>(()) }))).await;
        assert!(answers.iter().all(Result::is_ok));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_leaves_during_its_attempt_leaves_the_turn_to_the_next() {
        let trial = Trial::<&str>::default();
        trial.attempt(|| async { Err::<(), _>("refused") }).await.expect_err("the server is away");
        let hangs = trial.attempt(std::future::pending::<Result<(), &str>>);
        tokio::time::timeout(Duration::from_secs(9), hangs).await.expect_err("it hangs");
        trial.attempt(|| async { Ok::<_, &str>(()) }).await.expect("its turn");
    }
}
