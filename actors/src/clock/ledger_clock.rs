//! `LedgerClock`: the database's time on this instance.
//!
//! If each instance chose windows and judged expiry by its own clock, instances would disagree by as much as their
//! clocks do. So all of them use the database's clock. Its offset from this machine's uptime is measured now and then.
//! The times at which the question was sent and the answer came bound the offset; between two measurements the uptime
//! carries the time on. Setting this machine's wall clock changes nothing here.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicI64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    clock::Clock,
    ports::{PortResult, Timekeeper},
};

/// The database's time, computed from this machine's uptime.
pub struct LedgerClock {
    machine: Arc<dyn Clock>,
    database: Arc<dyn Timekeeper>,
    /// Microseconds from the uptime to the database's time since 1970.
    offset: AtomicI64,
    measured: AtomicBool,
}

impl LedgerClock {
    /// A clock that shows this machine's time until the first measurement.
    pub fn new(machine: Arc<dyn Clock>, database: Arc<dyn Timekeeper>) -> Self {
        let offset = machine.now().as_microsecond() - micros(machine.uptime());
        Self { machine, database, offset: AtomicI64::new(offset), measured: AtomicBool::new(false) }
    }

    /// Asks the database for its time and uses it from now on; returns by how much this machine's wall clock is ahead.
    ///
    /// # Errors
    /// The database's own. The last measurement then stays.
    pub async fn measure(&self) -> PortResult<SignedDuration> {
        let sent = self.machine.uptime();
        let time = self.database.time().await?;
        let answered = self.machine.uptime();
        self.learn(time, sent, answered);
        Ok(self.machine.now().duration_since(self.now()))
    }

    /// The database read its clock after the question was sent and before the answer came, which bounds the offset. An
    /// offset already within the bounds stays, so slow answers change nothing; otherwise the nearest bound is taken.
    fn learn(&self, time: Timestamp, sent: Duration, answered: Duration) {
        let (least, most) = (time.as_microsecond() - micros(answered), time.as_microsecond() - micros(sent));
        let offset = if self.measured.load(Acquire) {
            self.offset.load(Relaxed).clamp(least, most)
        } else {
            least.midpoint(most)
        };
        self.offset.store(offset, Relaxed);
        self.measured.store(true, Release);
    }
}

impl Clock for LedgerClock {
    fn now(&self) -> Timestamp {
        let now = micros(self.machine.uptime()).saturating_add(self.offset.load(Relaxed));
        // A database can return a time beyond the range of this type.
        Timestamp::from_microsecond(now).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Instant {
        self.machine.monotonic()
    }

    fn uptime(&self) -> Duration {
        self.machine.uptime()
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{clock::ManualClock, memory_time::MemoryTime};

    const START: &str = "2026-11-01T10:59:59Z";

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    fn clocks() -> (Arc<ManualClock>, Arc<MemoryTime>, LedgerClock) {
        let machine = Arc::new(ManualClock::at(START));
        let database = Arc::new(MemoryTime::new(machine.clone()));
        let clock = LedgerClock::new(machine.clone(), database.clone());
        (machine, database, clock)
    }

    #[tokio::test]
    async fn it_shows_the_databases_time_and_says_how_far_the_machine_is_ahead() {
        let (machine, database, clock) = clocks();
        database.is_ahead_by(SignedDuration::from_hours(-1));
        assert_eq!(clock.measure().await.expect("a time"), SignedDuration::from_hours(1));
        assert_eq!(clock.now(), at("2026-11-01T09:59:59Z"));
        machine.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), at("2026-11-01T10:00:01Z"));
    }

    #[tokio::test]
    async fn a_wall_clock_that_is_set_moves_nothing() {
        let (machine, _, clock) = clocks();
        clock.measure().await.expect("a time");
        machine.set(at("2029-01-01T00:00:00Z"));
        assert_eq!(clock.now(), at(START));
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_moves_the_time_no_further_than_it_proves() {
        let (_, _, clock) = clocks();
        let seconds = Duration::from_secs;
        clock.learn(at("2026-11-01T11:00:00Z"), seconds(0), seconds(0));
        // Every time from 11:00:00 to 11:00:06 is possible now.
        clock.learn(at("2026-11-01T11:00:03Z"), seconds(0), seconds(6));
        assert_eq!(clock.now(), at("2026-11-01T11:00:00Z"));
        // The database's clock was set back.
        clock.learn(at("2026-11-01T10:00:00Z"), seconds(0), seconds(1));
        assert_eq!(clock.now(), at("2026-11-01T10:00:00Z"));
    }
}
