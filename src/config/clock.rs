//! `[clock]`: how much clocks may be wrong before the node stops actions that depend on them.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// Time servers step clocks by less than this.
const LEAST_SKEW: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// The largest accepted difference between this machine's clock and the database's, and the largest accepted leap
    /// of a clock.
    #[serde(deserialize_with = "value::duration")]
    pub max_skew: Duration,
    /// How long all instances may have been stopped.
    #[serde(deserialize_with = "value::duration")]
    pub longest_pause: Duration,
    /// How long a doubted clock must have run steadily to be trusted again.
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
