//! The breaker of a bucket: while its storage does not answer, few attempts reach it, however many calls wait for it.
//!
//! As long as requests succeed now and then, nothing here is in the way: a call repeats its own request, with its own pauses. After
//! [`OUTAGE`] failures in a row, of all calls together, one attempt begins in each pause, whichever call makes it. The others wait
//! for its outcome, as long as their own deadlines allow, because streams that wait for a storage that comes back are not cut. The
//! first request that the storage answers ends the outage, and all go on, spread over a moment.
//!
//! **Bound.** One attempt in a pause. An attempt that hangs does not hold up the next one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{StorageTier, client::Attempt, error::S3Failure};
use crate::adapters::pause;

/// Failures in a row, without an answer in between, that make an outage.
const OUTAGE: u32 = 5;

/// Pauses double up to the longest, which bounds the time in which a storage that is back is found.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Failures of an outage after which the pause is the longest one.
const GROWS_FOR: u32 = 6;

/// The moment over which the waiting calls are spread when the storage is back.
const SPREAD: Duration = Duration::from_millis(200);

/// Failures in a row.
#[derive(Debug)]
struct Row {
    failures: u32,
    last: S3Failure,
    next_at: Instant,
}

/// The present state of a bucket's storage, as the outcomes of requests show it.
#[derive(Debug)]
pub(super) struct Outage {
    tier: StorageTier,
    row: Mutex<Option<Row>>,
    is_over: Notify,
}

impl Outage {
    pub(super) fn new(tier: StorageTier) -> Self {
        Self { tier, row: Mutex::new(None), is_over: Notify::new() }
    }

    fn row(&self) -> MutexGuard<'_, Option<Row>> {
        // Every change under the lock is complete before any code can panic.
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an attempt may begin.
    ///
    /// # Errors
    /// The last failure of the outage, when none may begin before the deadline.
    pub(super) async fn pass(&self, deadline: Instant) -> Attempt<()> {
        loop {
            let mut is_over = std::pin::pin!(self.is_over.notified());
            is_over.as_mut().enable();
            let Some((next_at, last)) = self.take_turn() else { return Ok(()) };
            tokio::select! {
                () = is_over => tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await,
                () = tokio::time::sleep_until(next_at.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return Err(last);
            }
        }
    }

    /// Takes the turn of this pause, or names the beginning of the next one.
    fn take_turn(&self) -> Option<(Instant, S3Failure)> {
        let mut row = self.row();
        let row = row.as_mut().filter(|row| row.failures >= OUTAGE)?;
        let now = Instant::now();
        if row.next_at > now {
            return Some((row.next_at, row.last.clone()));
        }
        row.next_at = now + pause(row.failures);
        None
    }

    /// Records the outcome of an attempt. Refusals are answers.
    pub(super) fn note<T>(&self, outcome: &Attempt<T>) {
        match outcome {
            Err(failure) if failure.is_passing() => self.failed(failure),
            _ => self.answered(),
        }
    }

    fn failed(&self, failure: &S3Failure) {
        let mut row = self.row();
        let failures = row.as_ref().map_or(0, |row| row.failures).saturating_add(1);
        let wait = pause(failures).max(failure.retry_after.unwrap_or_default());
        *row = Some(Row { failures, last: failure.clone(), next_at: Instant::now() + wait });
        drop(row);
        if failures == OUTAGE {
            tracing::warn!(tier = %self.tier, failures, %failure, "S3 does not answer; this node sends one request in a pause until one is answered");
        }
    }

    /// The storage has answered.
    pub(super) fn answered(&self) {
        let ended = self.row().take();
        if ended.is_some_and(|row| row.failures >= OUTAGE) {
            tracing::info!(tier = %self.tier, "S3 answers again; all requests go on");
            self.is_over.notify_waiters();
        }
    }
}

/// The pause after so many failures.
fn pause(failures: u32) -> Duration {
    pause::grown(FIRST_PAUSE, failures.saturating_sub(OUTAGE).min(GROWS_FOR), LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use futures::future::join_all;

    use super::{super::error::S3FailureKind, *};

    const LONG: Duration = Duration::from_secs(30);

    fn broken() -> S3Failure {
        S3Failure::new(S3FailureKind::Broken, "away")
    }

    fn in_outage() -> Outage {
        let outage = Outage::new(StorageTier::Hot);
        for _ in 0..OUTAGE {
            outage.note::<()>(&Err(broken()));
        }
        outage
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_calls_during_an_outage_make_one_attempt_in_a_pause() {
        let (outage, attempts) = (in_outage(), AtomicU32::new(0));
        let (began, deadline) = (Instant::now(), Instant::now() + LONG);
        let call = async || {
            while outage.pass(deadline).await.is_ok() {
                attempts.fetch_add(1, SeqCst);
                outage.note::<()>(&Err(broken()));
            }
        };
        join_all((0..1000).map(|_| call())).await;
        assert_eq!(began.elapsed().as_secs(), LONG.as_secs(), "all waited as long as they could, in virtual time");
        let most = u128::from(GROWS_FOR) + 1 + LONG.as_millis() / (LONGEST_PAUSE.as_millis() / 2);
        assert!((30..=most).contains(&u128::from(attempts.load(SeqCst))), "{attempts:?} of at most {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_lets_all_calls_go_on() {
        let outage = in_outage();
        let began = Instant::now();
        let call = async || {
            outage.pass(began + LONG).await.expect("in time");
            outage.note(&Ok(()));
        };
        join_all((0..1000).map(|_| call())).await;
        assert!(began.elapsed() <= LONGEST_PAUSE + SPREAD, "virtual time");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_or_leaves_holds_up_no_other() {
        let outage = in_outage();
        outage.pass(Instant::now() + LONG).await.expect("the first one's turn");
        let began = Instant::now();
        outage.pass(began + LONG).await.expect("the next pause is another one's");
        assert!(began.elapsed() <= LONGEST_PAUSE, "virtual time");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_with_answers_between_them_are_no_outage() {
        let outage = Outage::new(StorageTier::Hot);
        let refused = S3Failure::new(S3FailureKind::NotFound, "no such object");
        for _ in 0..10 {
            for _ in 1..OUTAGE {
                outage.note::<()>(&Err(broken()));
            }
            outage.note::<()>(&Err(refused.clone()));
        }
        let began = Instant::now();
        outage.pass(began).await.expect("at once");
        assert_eq!(began.elapsed(), Duration::ZERO, "virtual time");
    }
}
