//! Clocks on virtual time. The database's clock leaps; a machine's wall clock is wrong, and its uptime is not.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use penstock_actors::{
    clock::Clock,
    ports::{PortResult, Timekeeper},
};

/// So far from the virtual clock's beginning that a clock which leaps back stays after it.
const BEFORE: Duration = Duration::from_secs(30 * 86_400);

fn virtual_now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A clock that is ahead of the true time, or behind it.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    began: Instant,
    began_at: Timestamp,
    ahead_ms: AtomicI64,
    /// Whether the leaps move the monotonic clock too: a database judges its epochs by its wall clock.
    leaps: bool,
}

impl SkewedClock {
    pub(crate) fn database(began_at: Timestamp) -> Self {
        Self { began: virtual_now(), began_at, ahead_ms: AtomicI64::new(0), leaps: true }
    }

    pub(crate) fn machine(began_at: Timestamp, ahead: SignedDuration) -> Self {
        let ahead_ms = AtomicI64::new(i64::try_from(ahead.as_millis()).unwrap_or_default());
        Self { began: virtual_now(), began_at, ahead_ms, leaps: false }
    }

    fn ahead(&self) -> SignedDuration {
        SignedDuration::from_millis(self.ahead_ms.load(Relaxed))
    }

    pub(crate) fn set_ahead(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Relaxed);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        virtual_now().saturating_duration_since(self.began)
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        self.began_at + self.elapsed() + self.ahead()
    }

    fn monotonic(&self) -> Instant {
        if !self.leaps {
            return virtual_now();
        }
        let shifted = SignedDuration::try_from(BEFORE).unwrap_or_default() + self.ahead();
        virtual_now() + Duration::try_from(shifted).unwrap_or_default()
    }

    fn uptime(&self) -> Duration {
        self.elapsed()
    }
}

#[async_trait]
impl Timekeeper for SkewedClock {
    async fn time(&self) -> PortResult<Timestamp> {
        Ok(self.now())
    }

    async fn trusted_time(&self) -> PortResult<Option<Timestamp>> {
        Ok(None)
    }

    async fn trust_time(&self, _: Timestamp) -> PortResult<()> {
        Ok(())
    }
}
