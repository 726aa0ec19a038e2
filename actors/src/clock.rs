//! Time as a dependency, so that tests move the clock rather than sleep.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock in UTC, to the microsecond: what PostgreSQL can store.
    fn now(&self) -> Timestamp;

    /// A clock that never goes back, for deadlines.
    fn monotonic(&self) -> Instant;

    /// Real time since some moment before the process began. It never goes back, nobody can set it, and it counts the time that the
    /// machine sleeps, which [`monotonic`](Self::monotonic) does not: what the wall clock is measured by.
    fn uptime(&self) -> Duration;
}

/// Goes on while the machine sleeps, where the system has such a clock.
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

/// Drops what a database would drop, so that a time read back equals the time written.
pub fn to_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The moment that lies so far back.
pub(crate) fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}
