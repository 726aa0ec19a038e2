//! `[usage]`: how usage is written to the ledger.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Rows written together.
    #[serde(deserialize_with = "value::count")]
    pub batch_rows: usize,
    /// The longest time that a row waits for its batch to fill.
    #[serde(deserialize_with = "value::duration")]
    pub batch_age: Duration,
    /// Rows in memory that are not in the ledger yet, including those of running streams.
    #[serde(deserialize_with = "value::count")]
    pub queue_rows: usize,
    /// The most bytes of notes on this machine's disk about usage that is not in the ledger yet; 0 turns them off.
    #[serde(deserialize_with = "value::size")]
    pub spool_bytes: u64,
    /// How often these notes are synced to the disk.
    #[serde(deserialize_with = "value::duration")]
    pub spool_sync: Duration,
    /// How long the key that marks the addresses of clients is kept after its day.
    #[serde(deserialize_with = "value::duration")]
    pub client_key_retention: Duration,
}

/// The least room for notes besides those of the rows: four segments for each of four lanes.
const SPOOL_BASE: u64 = 16 << 20;

/// A row's note is 128 bytes, and old segments are given up when they are five times what the notes of all rows need.
const SPOOL_BYTES_PER_ROW: u64 = 5 * 128;

impl Usage {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.batch_rows, &["usage.batch_rows"]);
        rules.some_time(self.batch_age, &["usage.batch_age"]);
        rules.some_time(self.spool_sync, &["usage.spool_sync"]);
        let least = SPOOL_BASE + SPOOL_BYTES_PER_ROW * self.queue_rows as u64;
        rules.require(
            self.spool_bytes == 0 || self.spool_bytes >= least,
            &["usage.spool_bytes", "usage.queue_rows"],
            format_args!("be 0, or at least {least}: 16 MiB, and 640 bytes for each of usage.queue_rows"),
        );
        rules.require(
            self.batch_rows <= self.queue_rows,
            &["usage.queue_rows", "usage.batch_rows"],
            format_args!("be at least usage.batch_rows, which is {}", self.batch_rows),
        );
    }
}
