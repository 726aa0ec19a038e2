//! `ClockWatch`: whether the time can be relied on for what cannot be undone.
//!
//! Pruning, forgetting, sweeping and expiring ask here for the time. They get the database's, and only while two independent clocks
//! bear it out:
//!
//! - **This machine's wall clock** is not further from the database's than `max_skew`. One of the two is wrong otherwise, and which one
//!   nobody here can tell.
//! - **Real time**, which nobody can set: the database's clock has not gained more than `max_skew` on this machine's uptime since it
//!   was last right. After a start, the last time that an instance took for right is read in the database: it is no longer ago than all
//!   instances may have been stopped for, `longest_pause`.
//!
//! A time in doubt is right again when the clock comes back, when another instance or an operator confirms it (`trust_time`), or when it
//! has gone steadily for `patience` while this instance ran. Until then what cannot be undone waits, on this instance.

mod judge;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use self::judge::Judge;
use crate::{
    clock::Clock as _,
    ledger_clock::LedgerClock,
    ports::{PortResult, Timekeeper},
};

/// Clocks that a time server keeps differ by milliseconds; a machine that differs by more than this has none.
const WORTH_A_WORD: SignedDuration = SignedDuration::from_secs(2);

/// How old the trusted time in the database may become: the instances all write it, so it is written seldom.
const WRITTEN_EVERY: SignedDuration = SignedDuration::from_secs(30);

/// How far clocks may differ.
#[derive(Debug, Clone, Copy)]
pub struct WatchSettings {
    /// What clocks may differ by, and leap by, before nothing is done on their word.
    pub max_skew: Duration,
    /// All instances may have been stopped for so long.
    pub longest_pause: Duration,
    /// A clock that has gone steadily for so long is believed.
    pub patience: Duration,
}

/// Why a time cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// This machine's wall clock differs from the database's.
    Skewed { ahead: SignedDuration },
    /// The database's clock is later than it can be shown to be, by this much.
    Leapt { ahead: SignedDuration },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skewed { ahead } => {
                write!(f, "this machine's clock is {} the database's", Skew(*ahead))
            }
            Self::Leapt { ahead } => write!(f, "the clock is {:#} later than it can be shown to be", whole(*ahead)),
        }
    }
}

/// How one clock stands to another, in words.
struct Skew(SignedDuration);

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.0.is_negative() { "behind" } else { "ahead of" };
        write!(f, "{:#} {side}", whole(self.0.abs()))
    }
}

/// To the nearest second.
fn whole(time: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(time.as_secs_f64().round() as i64)
}

#[derive(Debug, Default)]
struct State {
    judge: Judge,
    /// By how much this machine's wall clock is ahead of the database's.
    skew: SignedDuration,
    /// Whether the log says that the clocks differ.
    skew_is_told: bool,
    doubt: Option<Doubt>,
}

/// Looks after the time.
pub struct ClockWatch {
    clock: Arc<LedgerClock>,
    database: Arc<dyn Timekeeper>,
    settings: WatchSettings,
    state: Mutex<State>,
}

impl ClockWatch {
    pub fn new(clock: Arc<LedgerClock>, database: Arc<dyn Timekeeper>, settings: WatchSettings) -> Self {
        Self { clock, database, settings, state: Mutex::default() }
    }

    /// Measures how the clocks stand. A change that an operator should know of is told in the log, once.
    ///
    /// # Errors
    /// The database's.
    pub async fn measure(&self) -> PortResult<()> {
        let skew = self.clock.measure().await?;
        let mut state = self.state();
        state.skew = skew;
        let is_skewed = skew.abs() > WORTH_A_WORD;
        if std::mem::replace(&mut state.skew_is_told, is_skewed) != is_skewed {
            if is_skewed {
                let why = "windows and expiry go by the database's; see that a time server keeps both";
                tracing::warn!("{}: {why}", Doubt::Skewed { ahead: skew });
            } else {
                tracing::info!("this machine's clock and the database's agree again");
            }
        }
        Ok(())
    }

    /// Asks the database for its time and judges it; why it cannot be relied on, if so.
    ///
    /// # Errors
    /// The database's.
    pub async fn doubt(&self) -> PortResult<Option<Doubt>> {
        self.judge().await.map(|(doubt, _)| doubt)
    }

    /// The time for what cannot be undone; `None` while it cannot be relied on, which is told in the log.
    ///
    /// # Errors
    /// The database's: then it is not known either.
    pub async fn proven(&self) -> PortResult<Option<Timestamp>> {
        let (doubt, trusted) = self.judge().await?;
        self.note(doubt);
        if doubt.is_some() {
            return Ok(None);
        }
        let now = self.clock.now();
        let is_fresh = trusted.is_some_and(|trusted| now.duration_since(trusted).abs() < WRITTEN_EVERY);
        if !is_fresh {
            self.database.trust_time(now).await?;
        }
        Ok(Some(now))
    }

    /// Writes down that the database's time is right, for all instances; that time.
    ///
    /// # Errors
    /// The database's.
    pub async fn confirm(&self) -> PortResult<Timestamp> {
        self.measure().await?;
        let now = self.clock.now();
        self.database.trust_time(now).await?;
        Ok(now)
    }

    async fn judge(&self) -> PortResult<(Option<Doubt>, Option<Timestamp>)> {
        self.measure().await?;
        let trusted = self.database.trusted_time().await?;
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let mut state = self.state();
        // What two clocks disagree about is no ground to judge a later time by.
        let doubt = if self.is_far_off(state.skew) {
            Some(Doubt::Skewed { ahead: state.skew })
        } else {
            let leapt = state.judge.judge(now, uptime, trusted, &self.settings);
            leapt.map(|ahead| Doubt::Leapt { ahead })
        };
        Ok((doubt, trusted))
    }

    /// Tells in the log that doubt has begun or ended.
    fn note(&self, doubt: Option<Doubt>) {
        let before = std::mem::replace(&mut self.state().doubt, doubt);
        match (before, doubt) {
            (None, Some(Doubt::Skewed { .. })) => tracing::error!(
                "{}: nothing is removed or expired by this instance until they agree",
                doubt.map(|doubt| doubt.to_string()).unwrap_or_default()
            ),
            (None, Some(leapt)) => tracing::error!(
                "{leapt}: nothing is removed or expired until it comes back, has gone steadily for {:?}, or is confirmed by \
                 `penstock confirm-clock`",
                self.settings.patience
            ),
            (Some(_), None) => tracing::info!("the clock is relied on again"),
            _ => {}
        }
    }

    fn is_far_off(&self, skew: SignedDuration) -> bool {
        skew.unsigned_abs() > self.settings.max_skew
    }

    /// By how much this machine's wall clock was ahead of the database's when it was last measured.
    pub fn skew(&self) -> SignedDuration {
        self.state().skew
    }

    /// How this machine's clock stood to the database's when it was last measured, in words.
    pub fn told_skew(&self) -> String {
        Doubt::Skewed { ahead: self.skew() }.to_string()
    }

    /// Whether the clocks differed by more than is allowed when they were last measured.
    pub fn is_skewed(&self) -> bool {
        let skew = self.skew();
        self.is_far_off(skew)
    }

    /// Whether what cannot be undone waits.
    pub fn is_in_doubt(&self) -> bool {
        self.state().doubt.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClockWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockWatch").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{clock::ManualClock, memory_time::MemoryTime, script::Fault};

    struct Scene {
        machine: Arc<ManualClock>,
        database: Arc<MemoryTime>,
        watch: ClockWatch,
    }

    fn scene() -> Scene {
        let machine = Arc::new(ManualClock::at("2026-11-01T10:30:00Z"));
        let database = Arc::new(MemoryTime::new(machine.clone()));
        let clock = Arc::new(LedgerClock::new(machine.clone(), database.clone()));
        let settings = WatchSettings {
            max_skew: Duration::from_secs(300),
            longest_pause: Duration::from_secs(7 * 86_400),
            patience: Duration::from_secs(86_400),
        };
        let watch = ClockWatch::new(clock, database.clone(), settings);
        Scene { machine, database, watch }
    }

    #[tokio::test]
    async fn clocks_that_agree_prove_the_time_and_it_is_written_down() {
        let Scene { machine, database, watch } = scene();
        let now = machine.now();
        assert_eq!(watch.proven().await.expect("asked"), Some(now));
        assert_eq!(database.trusted_time().await.expect("read"), Some(now));
        assert!(!watch.is_skewed() && !watch.is_in_doubt());
    }

    #[tokio::test]
    async fn a_machine_whose_clock_is_an_hour_off_proves_nothing_until_it_is_put_right() {
        for ahead in [1, -1] {
            let Scene { database, watch, .. } = scene();
            database.is_ahead_by(SignedDuration::from_hours(-ahead));
            assert_eq!(watch.proven().await.expect("asked"), None);
            assert_eq!(database.trusted_time().await.expect("read"), None);
            assert_eq!(watch.skew(), SignedDuration::from_hours(ahead));
            assert!(watch.is_skewed() && watch.is_in_doubt());
            database.is_ahead_by(SignedDuration::ZERO);
            assert!(watch.proven().await.expect("asked").is_some());
            assert!(!watch.is_skewed() && !watch.is_in_doubt());
        }
    }

    #[tokio::test]
    async fn clocks_that_leap_together_prove_nothing() {
        let Scene { machine, database, watch } = scene();
        let before = machine.now();
        watch.proven().await.expect("asked").expect("proven");
        machine.set(before + Duration::from_secs(31 * 86_400));
        assert_eq!(watch.proven().await.expect("asked"), None);
        assert_eq!(database.trusted_time().await.expect("read"), Some(before));
        machine.set(before);
        assert_eq!(watch.proven().await.expect("asked"), Some(before));
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_proves_nothing() {
        for call in ["time", "trusted_time", "trust_time"] {
            let Scene { database, watch, .. } = scene();
            database.script.next(call, [Fault::Unavailable]);
            assert!(watch.proven().await.is_err(), "{call}");
            assert!(watch.proven().await.expect("asked").is_some());
        }
    }
}
