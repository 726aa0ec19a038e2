//! The deadline of a stop: the process ends by then, whatever still blocks.
//!
//! Each step of a stop is bounded by what is left of the deadline. What cannot be bounded like that is a thread that hangs: a disk
//! or a file server that does not answer, a name that is not resolved, a database file that another process holds. So a thread of
//! the deadline ends the process if nothing else does. Nothing is lost by that: what is not in the ledger is in the usage spool.

use std::{
    process, thread,
    time::{Duration, Instant},
};

use crate::config;

/// After a notice, how long the listener still accepts connections that are already in its queue.
pub(super) const LAST_IN: Duration = Duration::from_millis(500);

/// Kept of the time for settlement, to close files and connections, and to report.
const CLOSING: Duration = Duration::from_millis(250);

/// How long a process may take to end that has nothing more to wait for.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The times of a stop, from the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopTimes {
    pub(super) notice: Duration,
    grace: Duration,
    settle: Duration,
}

impl From<&config::Server> for StopTimes {
    fn from(server: &config::Server) -> Self {
        Self { notice: server.drain_notice, grace: server.drain_grace, settle: server.drain_settle }
    }
}

impl StopTimes {
    /// Those of a node that failed: it gives no notice.
    pub(super) const fn without_notice(self) -> Self {
        Self { notice: Duration::ZERO, ..self }
    }

    /// For connections that were accepted before the listener closes.
    pub(super) fn last_in(self) -> Duration {
        self.notice.min(LAST_IN)
    }

    /// From the signal to the end of the process.
    fn whole(self) -> Duration {
        // The framework looks once a second whether its connections have ended, and cuts off no request early.
        let grace = Duration::from_secs((self.grace.as_secs_f64().ceil() as u64).max(1));
        self.notice + self.last_in() + grace + self.settle
    }

    /// Begins the time of a stop.
    pub(super) fn begin(self) -> Deadline {
        let whole = self.whole();
        tracing::info!(deadline = ?whole, "the node stops, and its process ends within this time");
        end_within(
            whole,
            "the node did not stop before its deadline (server.drain_*), so its process ends now; the next start on this data folder settles what its usage spool has",
        );
        Deadline { at: Instant::now() + whole, settle: self.settle }
    }
}

/// The deadline of a stop that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    settle: Duration,
}

impl Deadline {
    /// How long settlement may take that begins now.
    pub(super) fn left_to_settle(self) -> Duration {
        self.at.saturating_duration_since(Instant::now()).min(self.settle).saturating_sub(CLOSING)
    }
}

/// Ends the process soon: nothing more is waited for.
pub(super) fn end_at_once() {
    end_within(AT_ONCE, "the process was asked to stop at once and did not end by itself, so it ends now");
}

/// Ends the process after this time with a failure, unless it has ended by then.
fn end_within(time: Duration, message: &'static str) {
    let wait = move || {
        thread::sleep(time);
        tracing::error!("{message}");
        process::exit(1);
    };
    if let Err(error) = thread::Builder::new().name("penstock-deadline".to_owned()).spawn(wait) {
        tracing::error!(%error, "no thread can be started for the deadline of the stop; a supervisor has to kill a process that hangs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn times(notice: u64, grace: u64, settle: u64) -> StopTimes {
        StopTimes {
            notice: Duration::from_millis(notice),
            grace: Duration::from_millis(grace),
            settle: Duration::from_millis(settle),
        }
    }

    #[test]
    fn the_whole_is_the_sum_of_the_phases() {
        assert_eq!(times(0, 25_000, 4_000).whole(), Duration::from_secs(29));
        assert_eq!(times(3_000, 25_000, 4_000).whole(), Duration::from_millis(32_500));
        assert_eq!(times(100, 0, 1_000).whole(), Duration::from_millis(2_200));
        assert_eq!(times(0, 1_200, 1_000).whole(), Duration::from_secs(3), "no request is cut off early");
        assert_eq!(times(3_000, 25_000, 4_000).without_notice().whole(), Duration::from_secs(29));
    }

    #[test]
    fn settlement_has_its_time_and_no_more_than_the_deadline_leaves() {
        let now = Instant::now();
        let early = Deadline { at: now + Duration::from_secs(3600), settle: Duration::from_secs(4) };
        assert_eq!(early.left_to_settle(), Duration::from_millis(3_750));
        let late = Deadline { at: now + Duration::from_secs(1), settle: Duration::from_secs(4) };
        assert!(late.left_to_settle() <= Duration::from_millis(750));
        assert_eq!(Deadline { at: now, settle: Duration::from_secs(4) }.left_to_settle(), Duration::ZERO);
    }
}
