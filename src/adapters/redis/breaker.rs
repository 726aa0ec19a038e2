//! The circuit breaker of one server, as plain data. Closed, it holds the connection to use; open, it holds none. In
//! between, a server is on trial: it answers again, but its rest period is not over. It already gets the updates that
//! it missed, and no caller waits for it yet.

use std::time::{Duration, Instant};

/// After this many answers in a row that say that the server cannot serve, the breaker opens.
const TOLERANCE: u32 = 3;

/// Why the breaker of a server opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No answer in time. One time-out is enough: every further call to a server that hangs would wait in vain.
    Timeout,
    /// The connection broke.
    Broken,
    /// It answers that it cannot serve: it is loading, read-only or out of memory, or its cluster is down.
    Unable,
}

impl Fault {
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
pub(super) enum Verdict {
    AsBefore,
    /// The server failed its trial.
    StillOpen,
    Opened,
}

/// A breaker around a connection `C`.
#[derive(Debug)]
pub(super) struct Breaker<C> {
    state: State<C>,
    /// Grows with each connection, so that a fault of an old connection does not count against the present one.
    generation: u64,
}

#[derive(Debug)]
enum State<C> {
    Closed { connection: C, unable: u32 },
    Trial { connection: C, since: Instant },
    Open { since: Instant, fault: Option<Fault> },
}

impl<C: Clone> Breaker<C> {
    pub(super) const fn open(since: Instant) -> Self {
        Self { state: State::Open { since, fault: None }, generation: 0 }
    }

    /// Whether callers must not wait for the server.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Whether even background updates must not be sent.
    pub(super) const fn is_shut(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// How long callers must not wait for the server.
    pub(super) fn rest(&self, period: Duration) -> Duration {
        match self.state {
            State::Open { fault: Some(fault), .. } => fault.rest(period),
            State::Open { fault: None, .. } | State::Trial { .. } | State::Closed { .. } => Duration::ZERO,
        }
    }

    /// The connection to use and its generation.
    pub(super) fn connection(&self) -> Option<(C, u64)> {
        match &self.state {
            State::Closed { connection, .. } | State::Trial { connection, .. } => {
                Some((connection.clone(), self.generation))
            }
            State::Open { .. } => None,
        }
    }

    /// A probe succeeded.
    pub(super) fn try_out(&mut self, connection: C, now: Instant) {
        let since = match self.state {
            State::Open { since, .. } | State::Trial { since, .. } => since,
            State::Closed { .. } => now,
        };
        self.generation += 1;
        self.state = State::Trial { connection, since };
    }

    /// Ends the trial. Returns for how long callers have not waited for the server; `None` when it failed the trial.
    pub(super) fn close(&mut self, now: Instant) -> Option<Duration> {
        let State::Trial { connection, since } = &self.state else { return None };
        let was_open = now.saturating_duration_since(*since);
        self.state = State::Closed { connection: connection.clone(), unable: 0 };
        Some(was_open)
    }

    /// Notes what happened on the connection of a generation.
    pub(super) fn failed(&mut self, generation: u64, fault: Fault, now: Instant) -> Verdict {
        if generation != self.generation {
            return Verdict::AsBefore;
        }
        let (since, verdict) = match &mut self.state {
            State::Open { .. } => return Verdict::AsBefore,
            State::Trial { since, .. } => (*since, Verdict::StillOpen),
            State::Closed { unable, .. } => {
                *unable += 1;
                if fault == Fault::Unable && *unable < TOLERANCE {
                    return Verdict::AsBefore;
                }
                (now, Verdict::Opened)
            }
        };
        self.state = State::Open { since, fault: Some(fault) };
        verdict
    }

    /// Notes that the server carried out a command.
    pub(super) fn served(&mut self, generation: u64) {
        if let State::Closed { unable, .. } = &mut self.state
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
        assert_eq!(breaker.failed(1, Fault::Timeout, now), Verdict::Opened);
        assert_eq!(breaker.connection(), None);
        assert_eq!(breaker.failed(1, Fault::Timeout, now), Verdict::AsBefore, "it is open already");
    }

    #[test]
    fn a_few_answers_that_it_cannot_serve_open_it_unless_it_serves_in_between() {
        let now = Instant::now();
        let mut breaker = closed(now);
        for _ in 0..2 {
            assert_eq!(breaker.failed(1, Fault::Unable, now), Verdict::AsBefore);
            assert_eq!(breaker.failed(1, Fault::Unable, now), Verdict::AsBefore);
            breaker.served(1);
        }
        assert_eq!(breaker.failed(1, Fault::Unable, now), Verdict::AsBefore);
        assert_eq!(breaker.failed(1, Fault::Unable, now), Verdict::AsBefore);
        assert_eq!(breaker.failed(1, Fault::Unable, now), Verdict::Opened);
    }

    #[test]
    fn what_an_old_connection_did_says_nothing_about_the_new_one() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert_eq!(breaker.failed(1, Fault::Broken, now), Verdict::Opened);
        breaker.try_out("second", now);
        assert_eq!(breaker.close(now + Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(breaker.failed(1, Fault::Timeout, now), Verdict::AsBefore);
        assert_eq!(breaker.connection(), Some(("second", 2)));
    }

    #[test]
    fn on_trial_a_server_is_told_things_and_nobody_waits_for_it() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert_eq!(breaker.failed(1, Fault::Timeout, now), Verdict::Opened);
        assert!(breaker.is_open() && breaker.is_shut());
        breaker.try_out("second", now);
        assert!(breaker.is_open() && !breaker.is_shut());
        assert_eq!(breaker.connection(), Some(("second", 2)));
        assert_eq!(breaker.failed(2, Fault::Timeout, now), Verdict::StillOpen);
        assert!(breaker.is_shut());
        assert_eq!(breaker.close(now), None, "it failed its trial");
        breaker.try_out("third", now);
        assert_eq!(breaker.close(now + Duration::from_secs(3)), Some(Duration::from_secs(3)), "since the first fault");
        assert!(!breaker.is_open());
    }
}
