//! `[clock]`: how far clocks may be wrong before nothing is done on their word.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// Time servers step clocks by less than this.
const LEAST_SKEW: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// What this machine's clock may differ by from the database's, and any clock may leap by.
    #[serde(deserialize_with = "value::duration")]
    pub max_skew: Duration,
    /// All instances may have been stopped for so long.
    #[serde(deserialize_with = "value::duration")]
    pub longest_pause: Duration,
    /// A clock in doubt that has gone steadily for so long is believed.
    #[serde(deserialize_with = "value::duration")]
    pub patience: Duration,
}

impl Clock {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.max_skew >= LEAST_SKEW,
            &["clock.max_skew"],
            "be at least 10s, because time servers step clocks by some seconds",
        );
        rules.some_time(self.longest_pause, &["clock.longest_pause"]);
        rules.some_time(self.patience, &["clock.patience"]);
    }
}
