//! The circuit breaker of one server, as plain data. Closed, it holds the connection to use; open, it holds none. In
//! between, a server is on trial: it answers again, but its rest period is not over. It already gets the updates that
//! it missed, and no caller waits for it yet.

use std::time::{Duration, Instant};

/// After this many answers in a row that say that the server cannot serve, the breaker opens.
const TOLERANCE: u32 = 3;

/// Why the breaker of a server opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenReason {
    /// No answer in time. One time-out is enough: every further call to a server that hangs would wait in vain.
    Timeout,
    /// The connection broke.
    Broken,
    /// It answers that it cannot serve: it is loading, read-only or out of memory, or its cluster is down.
    Unable,
}

impl OpenReason {
    /// A broken connection is replaced at once, because calls on it fail without a wait.
    const fn rest(self, period: Duration) -> Duration {
        match self {
            Self::Broken => Duration::ZERO,
            Self::Timeout | Self::Unable => period,
        }
    }
}

/// The effect of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerChange {
    AsBefore,
    /// The server failed its trial.
    StillOpen,
    Opened,
}

/// A breaker around a connection `C`.
#[derive(Debug)]
pub(super) struct Breaker<C> {
    state: BreakerState<C>,
    /// Grows with each connection, so that a fault of an old connection does not count against the present one.
    generation: u64,
}

#[derive(Debug)]
enum BreakerState<C> {
    Closed { connection: C, unable: u32 },
    Trial { connection: C, since: Instant },
    Open { since: Instant, fault: Option<OpenReason> },
}

impl<C: Clone> Breaker<C> {
    pub(super) const fn open(since: Instant) -> Self {
        Self { state: BreakerState::Open { since, fault: None }, generation: 0 }
    }

    /// Whether callers must not wait for the server.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, BreakerState::Closed { .. })
    }

    /// Whether even background updates must not be sent.
    pub(super) const fn is_shut(&self) -> bool {
        matches!(self.state, BreakerState::Open { .. })
    }

    /// How long callers must not wait for the server.
    pub(super) fn rest(&self, period: Duration) -> Duration {
        match self.state {
            BreakerState::Open { fault: Some(fault), .. } => fault.rest(period),
            BreakerState::Open { fault: None, .. } | BreakerState::Trial { .. } | BreakerState::Closed { .. } => {
                Duration::ZERO
            }
        }
    }

    /// The connection to use and its generation.
    pub(super) fn connection(&self) -> Option<(C, u64)> {
        match &self.state {
            BreakerState::Closed { connection, .. } | BreakerState::Trial { connection, .. } => {
                Some((connection.clone(), self.generation))
            }
            BreakerState::Open { .. } => None,
        }
    }

    /// A probe succeeded.
    pub(super) fn try_out(&mut self, connection: C, now: Instant) {
        let since = match self.state {
            BreakerState::Open { since, .. } | BreakerState::Trial { since, .. } => since,
            BreakerState::Closed { .. } => now,
        };
        self.generation += 1;
        self.state = BreakerState::Trial { connection, since };
    }

    /// Ends the trial. Returns for how long callers have not waited for the server; `None` when it failed the trial.
    pub(super) fn close(&mut self, now: Instant) -> Option<Duration> {
        let BreakerState::Trial { connection, since } = &self.state else { return None };
        let was_open = now.saturating_duration_since(*since);
        self.state = BreakerState::Closed { connection: connection.clone(), unable: 0 };
        Some(was_open)
    }

    /// Notes what happened on the connection of a generation.
    pub(super) fn failed(&mut self, generation: u64, fault: OpenReason, now: Instant) -> BreakerChange {
        if generation != self.generation {
            return BreakerChange::AsBefore;
        }
        let (since, verdict) = match &mut self.state {
            BreakerState::Open { .. } => return BreakerChange::AsBefore,
            BreakerState::Trial { since, .. } => (*since, BreakerChange::StillOpen),
            BreakerState::Closed { unable, .. } => {
                *unable += 1;
                if fault == OpenReason::Unable && *unable < TOLERANCE {
                    return BreakerChange::AsBefore;
                }
                (now, BreakerChange::Opened)
            }
        };
        self.state = BreakerState::Open { since, fault: Some(fault) };
        verdict
    }

    /// Notes that the server carried out a command.
    pub(super) fn served(&mut self, generation: u64) {
        if let BreakerState::Closed { unable, .. } = &mut self.state
            && generation == self.generation
        {
            *unable = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(now: Instant) -> Breaker<&'static str> {
        let mut breaker = Breaker::open(now);
        breaker.try_out("first", now);
        assert_eq!(breaker.close(now), Some(Duration::ZERO));
        breaker
    }

    #[test]
    fn the_first_time_out_opens_it() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert_eq!(breaker.failed(1, OpenReason::Timeout, now), BreakerChange::Opened);
        assert_eq!(breaker.connection(), None);
        assert_eq!(breaker.failed(1, OpenReason::Timeout, now), BreakerChange::AsBefore, "it is open already");
    }

    #[test]
    fn a_few_answers_that_it_cannot_serve_open_it_unless_it_serves_in_between() {
        let now = Instant::now();
        let mut breaker = closed(now);
        for _ in 0..2 {
            assert_eq!(breaker.failed(1, OpenReason::Unable, now), BreakerChange::AsBefore);
            assert_eq!(breaker.failed(1, OpenReason::Unable, now), BreakerChange::AsBefore);
            breaker.served(1);
        }
        assert_eq!(breaker.failed(1, OpenReason::Unable, now), BreakerChange::AsBefore);
        assert_eq!(breaker.failed(1, OpenReason::Unable, now), BreakerChange::AsBefore);
        assert_eq!(breaker.failed(1, OpenReason::Unable, now), BreakerChange::Opened);
    }

    #[test]
    fn what_an_old_connection_did_says_nothing_about_the_new_one() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert_eq!(breaker.failed(1, OpenReason::Broken, now), BreakerChange::Opened);
        breaker.try_out("second", now);
        assert_eq!(breaker.close(now + Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(breaker.failed(1, OpenReason::Timeout, now), BreakerChange::AsBefore);
        assert_eq!(breaker.connection(), Some(("second", 2)));
    }

    #[test]
    fn a_server_on_trial_gets_calls_and_no_request_waits_for_it() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert_eq!(breaker.failed(1, OpenReason::Timeout, now), BreakerChange::Opened);
        assert!(breaker.is_open() && breaker.is_shut());
        breaker.try_out("second", now);
        assert!(breaker.is_open() && !breaker.is_shut());
        assert_eq!(breaker.connection(), Some(("second", 2)));
        assert_eq!(breaker.failed(2, OpenReason::Timeout, now), BreakerChange::StillOpen);
        assert!(breaker.is_shut());
        assert_eq!(breaker.close(now), None, "it failed its trial");
        breaker.try_out("third", now);
        assert_eq!(breaker.close(now + Duration::from_secs(3)), Some(Duration::from_secs(3)), "since the first fault");
        assert!(!breaker.is_open());
    }
}
