//! Retries: how often, and with which pauses.
//!
//! Attempts count only without progress: a download that progresses between two interruptions may continue for ever,
//! one that is cut off at the same place each time ends. So the number of attempts is bounded by the bytes of the
//! content.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use clap::Args;

use super::{error::AttemptFailure, progress::Progress};
use crate::words;

/// The first pause: long enough for a busy node to have cleaned up a connection that was reset.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause without a request by the node: a restarting node is back within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// When to give up.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// Retries after a temporary failure, counted again from zero after each new byte
    // With doubling pauses, six retries take about 13 seconds: a restart of the node, not an outage.
    #[arg(long, default_value_t = 6, value_name = "TIMES", value_parser = words::count::<usize>)]
    pub retries: usize,

    /// The longest wait (Retry-After) that the node may ask for; a longer one ends the command
    // A rate limit ends within a minute; a quota window may take a month, and no user waits for that at a prompt.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = words::duration)]
    pub max_wait: Duration,
}

/// The remaining retries.
pub(super) struct Retries {
    pauses: ExponentialBackoff,
    args: RetryArgs,
}

impl Retries {
    pub(super) fn new(args: &RetryArgs) -> Self {
        Self { pauses: pauses(args), args: args.clone() }
    }

    /// There was progress: the count starts again.
    pub(super) fn begin_again(&mut self) {
        self.pauses = pauses(&self.args);
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// When the failure is final, no retry is left, or the node asks for a longer wait than is allowed.
    pub(super) async fn pause(&mut self, failure: AttemptFailure, progress: &Progress) -> anyhow::Result<()> {
        let AttemptFailure::Passing { reason, retry_after } = failure else {
            return Err(failure.into());
        };
        let Some(pause) = self.pauses.next() else {
            anyhow::bail!("{reason}; gave up after {} attempts without progress", self.args.retries + 1);
        };
        let pause = retry_after.map_or(pause, |asked| asked.max(pause));
        if pause > self.args.max_wait {
            anyhow::bail!(
                "{reason}; the node asks to wait {}, more than --max-wait allows",
                humantime::format_duration(pause)
            );
        }
        let shown = Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        progress.note(&format!("{reason}; trying again in {}", humantime::format_duration(shown)));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn pauses(args: &RetryArgs) -> ExponentialBackoff {
    // Jitter, so that the clients of a restarted node do not all come back at once.
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_max_times(args.retries)
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: RetryArgs = RetryArgs { retries: 2, max_wait: Duration::from_secs(60) };

    fn passing(retry_after: Option<Duration>) -> AttemptFailure {
        AttemptFailure::Passing { reason: "the node is busy".into(), retry_after }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_unless_something_is_won() {
        let mut retries = Retries::new(&ARGS);
        let progress = Progress::hidden();
        retries.pause(passing(None), &progress).await.unwrap();
        retries.pause(passing(None), &progress).await.unwrap();
        let end = retries.pause(passing(None), &progress).await.unwrap_err();
        assert_eq!(end.to_string(), "the node is busy; gave up after 3 attempts without progress");

        retries.begin_again();
        retries.pause(passing(None), &progress).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_is_left_alone_for_as_long_as_it_asks() {
        let began = tokio::time::Instant::now();
        let asked = Duration::from_secs(40);
        Retries::new(&ARGS).pause(passing(Some(asked)), &Progress::hidden()).await.unwrap();
        assert!(began.elapsed() >= asked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_patience_ends_the_command_at_once() {
        let failure = passing(Some(Duration::from_secs(7200)));
        let end = Retries::new(&ARGS).pause(failure, &Progress::hidden()).await.unwrap_err();
        assert_eq!(end.to_string(), "the node is busy; the node asks to wait 2h, more than --max-wait allows");
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_failure_is_not_tried_again() {
        let end = Retries::new(&ARGS).pause(AttemptFailure::Final("no such receipt".into()), &Progress::hidden()).await;
        assert_eq!(end.unwrap_err().to_string(), "no such receipt");
    }
}
