//! Time as a dependency, so that tests move the clock instead of sleeping.
//!
//! [`ledger_clock`] is the database's time on this instance, by which windows and expiries are judged. [`watch`] says whether that time
//! can be relied on for what cannot be undone. Every actor takes a [`Clock`].

pub mod ledger_clock;
pub mod watch;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// The source of time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock in UTC, in microseconds: the precision that PostgreSQL stores.
    fn now(&self) -> Timestamp;

    /// A clock that never goes back, for deadlines.
    fn monotonic(&self) -> Instant;

    /// Real time since a moment before the process began, to measure the wall clock by. It never goes back, cannot be
    /// set, and counts the time that the machine sleeps, which [`monotonic`](Self::monotonic) does not.
    fn uptime(&self) -> Duration;
}

/// Continues while the machine sleeps, where the system has such a clock.
#[cfg(target_os = "linux")]
const UPTIME: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const UPTIME: ClockId = ClockId::CLOCK_MONOTONIC;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        to_micros(Timestamp::now())
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    fn uptime(&self) -> Duration {
        clock_gettime(UPTIME).expect("every system that the node runs on has this clock").into()
    }
}

/// Drops the precision that a database would drop, so that a time read back equals the time written.
pub fn to_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The moment that lies `age` before `now`.
pub fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}
