//! A database's clock in memory: ahead of another clock or behind it, as a test says.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{clock::ManualClock, script::Script};
use crate::{
    clock::{Clock as _, watch::WatchSettings},
    ports::{PortResult, Timekeeper},
};

/// How far clocks may differ in tests.
pub const WATCH: WatchSettings = WatchSettings {
    max_skew: Duration::from_secs(300),
    longest_pause: Duration::from_secs(7 * 86_400),
    patience: Duration::from_secs(86_400),
};

/// A database's clock, and the last trusted time.
pub struct MemoryTime {
    /// Its scripted faults.
    pub script: Script,
    clock: Arc<ManualClock>,
    state: Mutex<(SignedDuration, Option<Timestamp>)>,
}

impl MemoryTime {
    /// A clock that shows the time of `clock`.
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self { script: Script::default(), clock, state: Mutex::default() }
    }

    pub fn is_ahead_by(&self, ahead: SignedDuration) {
        self.state().0 = ahead;
    }

    fn state(&self) -> MutexGuard<'_, (SignedDuration, Option<Timestamp>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Timekeeper for MemoryTime {
    async fn time(&self) -> PortResult<Timestamp> {
        self.script.play("time", 1, || Ok(self.clock.now() + self.state().0)).await
    }

    async fn trusted_time(&self) -> PortResult<Option<Timestamp>> {
        self.script.play("trusted_time", 1, || Ok(self.state().1)).await
    }

    async fn trust_time(&self, at: Timestamp) -> PortResult<()> {
        let work = || {
            self.state().1 = Some(at);
            Ok(())
        };
        self.script.play("trust_time", 1, work).await
    }
}
