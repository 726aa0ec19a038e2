//! The clock that all instances use.

use std::sync::Arc;

use penstock_actors::clock::{
    SystemClock,
    ledger_clock::LedgerClock,
    watch::{ClockWatch, WatchSettings},
};

use super::Database;
use crate::config::Config;

/// The database's clock, not measured yet, and the watch that measures it.
pub fn watch_clock(config: &Config, database: &Database) -> (Arc<LedgerClock>, Arc<ClockWatch>) {
    let clock = Arc::new(LedgerClock::new(Arc::new(SystemClock), Arc::clone(&database.timekeeper)));
    let settings = WatchSettings {
        max_skew: config.clock.max_skew,
        longest_pause: config.clock.longest_pause,
        patience: config.clock.patience,
    };
    let watch = ClockWatch::new(Arc::clone(&clock), Arc::clone(&database.timekeeper), settings);
    (clock, Arc::new(watch))
}
