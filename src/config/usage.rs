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
}

impl Usage {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.batch_rows, &["usage.batch_rows"]);
        rules.some_time(self.batch_age, &["usage.batch_age"]);
        rules.require(
            self.batch_rows <= self.queue_rows,
            &["usage.queue_rows", "usage.batch_rows"],
            format_args!("be at least usage.batch_rows, which is {}", self.batch_rows),
        );
    }
}
