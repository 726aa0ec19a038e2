//! `ClockWatch`: whether the time is reliable enough for irreversible work.
//!
//! Pruning, deletion, sweeping and expiry take their time from here. They get the database's time, and only while two
//! independent clocks support it:
//!
//! - **This machine's wall clock** differs from the database's by no more than `max_skew`. Otherwise one of the two is
//!   wrong, and the node cannot tell which one.
//! - **Real time**, which cannot be set: since it was last right, the database's clock has gained no more than
//!   `max_skew` on this machine's uptime. After a start, the database holds the last time that an instance accepted as
//!   right; it must be no older than `longest_pause`, the longest time for which all instances may have been stopped.
//!
//! A storage with a clock of its own (S3) dates what is written by that clock. Where it differs from the proven time by more than
//! `max_skew`, the ages of uploads, blobs and trash mean nothing, and nothing is removed from the storage
//! ([`ClockWatch::agrees_with`]).
//!
//! A time in doubt is right again when the clock comes back, when another instance or an operator confirms it
//! (`trust_time`), or when it has run steadily for `patience` while this instance ran. Until then irreversible work
//! waits on this instance.

mod judge;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use self::judge::ClockJudge;
use crate::{
    clock::{Clock as _, ledger_clock::LedgerClock},
    ports::{PortResult, StoreTime, Timekeeper},
};

/// A time server keeps clocks within milliseconds; a machine that differs by more than this has no working one.
const WORTH_A_WORD: SignedDuration = SignedDuration::from_secs(2);

/// How old the trusted time in the database may become. All instances write it, so each writes it seldom.
const WRITTEN_EVERY: SignedDuration = SignedDuration::from_secs(30);

/// How far clocks may differ.
#[derive(Debug, Clone, Copy)]
pub struct WatchSettings {
    /// How far clocks may differ, or leap, before irreversible work stops.
    pub max_skew: Duration,
    /// The longest time for which all instances may have been stopped.
    pub longest_pause: Duration,
    /// A clock that has run steadily for this long is believed.
    pub patience: Duration,
}

/// Why a time cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDoubt {
    /// This machine's wall clock differs from the database's.
    Skewed { ahead: SignedDuration },
    /// The database's clock is this much later than can be proven.
    Leapt { ahead: SignedDuration },
}

impl fmt::Display for ClockDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skewed { ahead } => {
                write!(f, "this machine's clock is {} the database's", Skew(*ahead))
            }
            Self::Leapt { ahead } => write!(f, "the clock is {:#} later than can be proven", whole(*ahead)),
        }
    }
}

/// By how much a time is before (negative) or after a span of time.
fn outside(time: Timestamp, from: Timestamp, to: Timestamp) -> SignedDuration {
    time.duration_since(from).min(SignedDuration::ZERO) + time.duration_since(to).max(SignedDuration::ZERO)
}

/// The difference between two clocks, in words.
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
struct WatchState {
    judge: ClockJudge,
    /// By how much this machine's wall clock is ahead of the database's.
    skew: SignedDuration,
    /// Whether the difference has been logged.
    skew_is_logged: bool,
    doubt: Option<ClockDoubt>,
    /// By how much the clock of the storage is ahead of the proven time, in the tier where it differs most.
    storage_skew: SignedDuration,
    /// Whether that is too much, which has been logged.
    storage_is_off: bool,
}

/// Watches the clocks.
pub struct ClockWatch {
    clock: Arc<LedgerClock>,
    database: Arc<dyn Timekeeper>,
    settings: WatchSettings,
    state: Mutex<WatchState>,
}

impl ClockWatch {
    pub fn new(clock: Arc<LedgerClock>, database: Arc<dyn Timekeeper>, settings: WatchSettings) -> Self {
        Self { clock, database, settings, state: Mutex::default() }
    }

    /// Measures how far the clocks differ. Logs a change that an operator should know of, once.
    ///
    /// # Errors
    /// The database's own.
    pub async fn measure(&self) -> PortResult<()> {
        let skew = self.clock.measure().await?;
        let mut state = self.state();
        state.skew = skew;
        let is_skewed = skew.abs() > WORTH_A_WORD;
        if std::mem::replace(&mut state.skew_is_logged, is_skewed) != is_skewed {
            if is_skewed {
                let why = "windows and expiry use the database's clock; synchronise both machines with a time server";
                tracing::warn!("{}: {why}", ClockDoubt::Skewed { ahead: skew });
            } else {
                tracing::info!("this machine's clock and the database's agree again");
            }
        }
        Ok(())
    }

    /// Asks the database for its time and judges it; returns the reason when it is unreliable.
    ///
    /// # Errors
    /// The database's own.
    pub async fn doubt(&self) -> PortResult<Option<ClockDoubt>> {
        self.judge().await.map(|(doubt, _)| doubt)
    }

    /// The time for irreversible work; `None` while it is unreliable, which is logged.
    ///
    /// # Errors
    /// The database's own: then the time is unknown too.
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

    /// Records in the database, for all instances, that its time is right; returns that time.
    ///
    /// # Errors
    /// The database's own.
    pub async fn confirm(&self) -> PortResult<Timestamp> {
        self.measure().await?;
        let now = self.clock.now();
        self.database.trust_time(now).await?;
        Ok(now)
    }

    async fn judge(&self) -> PortResult<(Option<ClockDoubt>, Option<Timestamp>)> {
        self.measure().await?;
        let trusted = self.database.trusted_time().await?;
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let mut state = self.state();
        // While the two clocks differ, neither is a basis to judge a later time by.
        let doubt = if self.is_far_off(state.skew) {
            Some(ClockDoubt::Skewed { ahead: state.skew })
        } else {
            let leapt = state.judge.judge(now, uptime, trusted, &self.settings);
            leapt.map(|ahead| ClockDoubt::Leapt { ahead })
        };
        Ok((doubt, trusted))
    }

    /// Logs that doubt has begun or ended.
    fn note(&self, doubt: Option<ClockDoubt>) {
        let before = std::mem::replace(&mut self.state().doubt, doubt);
        match (before, doubt) {
            (None, Some(ClockDoubt::Skewed { .. })) => tracing::error!(
                "{}: this instance removes and expires nothing until the two clocks agree",
                doubt.map(|doubt| doubt.to_string()).unwrap_or_default()
            ),
            (None, Some(leapt)) => tracing::error!(
                "{leapt}: this instance removes and expires nothing until the clock comes back, has run steadily for {:?}, or is confirmed by \
                 `penstock confirm-clock`",
                self.settings.patience
            ),
            (Some(_), None) => tracing::info!("the clock is reliable again; removal and expiry go on"),
            _ => {}
        }
    }

    /// Whether the clocks of the storage agree with the proven time, which was `asked` before they were read and `answered`
    /// after. A change is logged, once.
    pub fn agrees_with(&self, clocks: &[StoreTime], asked: Timestamp, answered: Timestamp) -> bool {
        let skews = clocks.iter().map(|clock| (clock.tier, outside(clock.now, asked, answered)));
        let worst = skews.max_by_key(|(_, skew)| skew.abs());
        let off = worst.filter(|(_, skew)| self.is_far_off(*skew));
        let mut state = self.state();
        state.storage_skew = worst.map_or(SignedDuration::ZERO, |(_, skew)| skew);
        match (std::mem::replace(&mut state.storage_is_off, off.is_some()), off) {
            (false, Some((tier, ahead))) => tracing::error!(
                %tier,
                "the clock of the storage is {} the database's, so the ages of its objects are wrong: this instance removes nothing from \
                 the storage until the two clocks agree",
                Skew(ahead)
            ),
            (true, None) => {
                tracing::info!("the clock of the storage agrees with the database's again; removal goes on");
            }
            _ => {}
        }
        off.is_none()
    }

    /// How far the storage's clock was ahead of the proven time at the last comparison, in the tier where it differs most.
    pub fn storage_skew(&self) -> SignedDuration {
        self.state().storage_skew
    }

    fn is_far_off(&self, skew: SignedDuration) -> bool {
        skew.unsigned_abs() > self.settings.max_skew
    }

    /// How far this machine's wall clock was ahead of the database's at the last measurement.
    pub fn skew(&self) -> SignedDuration {
        self.state().skew
    }

    /// The difference between this machine's clock and the database's at the last measurement, in words.
    pub fn reported_skew(&self) -> String {
        ClockDoubt::Skewed { ahead: self.skew() }.to_string()
    }

    /// Whether the clocks differed by more than is allowed at the last measurement.
    pub fn is_skewed(&self) -> bool {
        let skew = self.skew();
        self.is_far_off(skew)
    }

    /// Whether irreversible work waits.
    pub fn is_in_doubt(&self) -> bool {
        self.state().doubt.is_some()
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        // No code between lock and unlock can leave it half changed.
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
    use crate::{
        model::StorageTier,
        testkit::{
            clock::ManualClock,
            memory_time::{MemoryTime, WATCH},
            script::Fault,
        },
    };

    struct Scene {
        machine: Arc<ManualClock>,
        database: Arc<MemoryTime>,
        watch: ClockWatch,
    }

    fn scene() -> Scene {
        let machine = Arc::new(ManualClock::at("2026-11-01T10:30:00Z"));
        let database = Arc::new(MemoryTime::new(machine.clone()));
        let clock = Arc::new(LedgerClock::new(machine.clone(), database.clone()));
        let watch = ClockWatch::new(clock, database.clone(), WATCH);
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
    async fn a_machine_with_a_clock_an_hour_off_proves_nothing_until_it_is_corrected() {
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

    #[test]
    fn a_storage_agrees_within_the_bound_whatever_time_it_takes_to_answer() {
        let Scene { machine, watch, .. } = scene();
        let (asked, answered) = (machine.now(), machine.now() + SignedDuration::from_mins(30));
        let at = |now| StoreTime { tier: StorageTier::Hot, now };
        let minute = SignedDuration::from_mins(1);
        assert!(watch.agrees_with(&[], asked, answered), "a storage without a clock of its own");
        for right in [asked - minute * 4, asked + minute, answered + minute * 4] {
            assert!(watch.agrees_with(&[at(right)], asked, answered), "{right}");
        }
        for wrong in [asked - minute * 6, answered + minute * 6, answered + minute * 60 * 24 * 31] {
            assert!(!watch.agrees_with(&[at(asked), at(wrong)], asked, answered), "{wrong}");
        }
        assert_eq!(watch.storage_skew(), minute * 60 * 24 * 31);
        assert!(!watch.is_in_doubt(), "receipts and windows do not depend on it");
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
