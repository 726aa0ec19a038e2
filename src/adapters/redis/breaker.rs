//! The circuit breaker of one server, as plain data: closed, it holds the connection to use; open, it holds nothing.

use std::time::{Duration, Instant};

/// Answers in a row by which a server says that it cannot serve now, after which it is left alone.
const TOLERANCE: u32 = 3;

/// Why a server is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It did not answer in time. One is enough: whoever calls a server that hangs waits in vain.
    Timeout,
    /// The connection broke.
    Broken,
    /// It answers that it cannot serve: loading, read-only, out of memory, its cluster is down.
    Unable,
}

impl Fault {
    /// A broken connection is made anew at once, for that costs nobody a wait.
    const fn rest(self, period: Duration) -> Duration {
        match self {
            Self::Broken => Duration::ZERO,
            Self::Timeout | Self::Unable => period,
        }
    }
}

/// A breaker around a connection `C`.
#[derive(Debug)]
pub(super) struct Breaker<C> {
    state: State<C>,
    /// Grows with each connection, so that a fault of an old one says nothing about the present one.
    generation: u64,
}

#[derive(Debug)]
enum State<C> {
    Closed { connection: C, unable: u32 },
    Open { since: Instant, fault: Option<Fault> },
}

impl<C: Clone> Breaker<C> {
    pub(super) const fn open(since: Instant) -> Self {
        Self { state: State::Open { since, fault: None }, generation: 0 }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// How long to leave the server alone before the first probe.
    pub(super) fn rest(&self, period: Duration) -> Duration {
        match self.state {
            State::Open { fault: Some(fault), .. } => fault.rest(period),
            State::Open { fault: None, .. } | State::Closed { .. } => Duration::ZERO,
        }
    }

    /// The connection to use and its generation.
    pub(super) fn connection(&self) -> Option<(C, u64)> {
        match &self.state {
            State::Closed { connection, .. } => Some((connection.clone(), self.generation)),
            State::Open { .. } => None,
        }
    }

    /// A probe succeeded; for how long the breaker had been open.
    pub(super) fn close(&mut self, connection: C, now: Instant) -> Duration {
        let was_open = match self.state {
            State::Open { since, .. } => now.saturating_duration_since(since),
            State::Closed { .. } => Duration::ZERO,
        };
        self.generation += 1;
        self.state = State::Closed { connection, unable: 0 };
        was_open
    }

    /// Notes what happened on the connection of a generation; whether that opened the breaker just now.
    pub(super) fn failed(&mut self, generation: u64, fault: Fault, now: Instant) -> bool {
        let State::Closed { unable, .. } = &mut self.state else { return false };
        if generation != self.generation {
            return false;
        }
        if fault == Fault::Unable {
            *unable += 1;
            if *unable < TOLERANCE {
                return false;
            }
        }
        self.state = State::Open { since: now, fault: Some(fault) };
        true
    }

    /// Notes that the server did what it was asked.
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
        breaker.close("first", now);
        breaker
    }

    #[test]
    fn the_first_time_out_opens_it() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert!(breaker.failed(1, Fault::Timeout, now));
        assert_eq!(breaker.connection(), None);
        assert!(!breaker.failed(1, Fault::Timeout, now), "it is open already");
    }

    #[test]
    fn a_few_answers_that_it_cannot_serve_open_it_unless_it_serves_in_between() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert!(!breaker.failed(1, Fault::Unable, now));
        assert!(!breaker.failed(1, Fault::Unable, now));
        breaker.served(1);
        assert!(!breaker.failed(1, Fault::Unable, now));
        assert!(!breaker.failed(1, Fault::Unable, now));
        assert!(breaker.failed(1, Fault::Unable, now));
    }

    #[test]
    fn what_an_old_connection_did_says_nothing_about_the_new_one() {
        let now = Instant::now();
        let mut breaker = closed(now);
        assert!(breaker.failed(1, Fault::Broken, now));
        assert_eq!(breaker.close("second", now + Duration::from_secs(2)), Duration::from_secs(2));
        assert!(!breaker.failed(1, Fault::Timeout, now));
        assert_eq!(breaker.connection(), Some(("second", 2)));
    }
}
