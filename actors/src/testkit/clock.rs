//! A clock that stands still until a test moves it.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::clock::Clock;

/// A clock that stands still until [`advance`](Self::advance) moves it.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Timestamp, Instant)>,
    began: Instant,
}

impl ManualClock {
    /// # Panics
    /// When `now` is not an RFC 3339 time.
    pub fn at(now: &str) -> Self {
        let began = Instant::now();
        Self { now: Mutex::new((now.parse().expect("an RFC 3339 time"), began)), began }
    }

    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().expect("no test panics while it moves the clock");
        now.0 += by;
        now.1 += by;
    }

    /// Sets the wall clock alone, as an operator or a time server does.
    pub fn set(&self, now: Timestamp) {
        self.now.lock().expect("no test panics while it moves the clock").0 = now;
    }

    fn read(&self) -> (Timestamp, Instant) {
        *self.now.lock().expect("no test panics while it moves the clock")
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.read().0
    }

    fn monotonic(&self) -> Instant {
        self.read().1
    }

    fn uptime(&self) -> Duration {
        self.read().1 - self.began
    }
}
