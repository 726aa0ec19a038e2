//! `[janitor]`: housekeeping: its pace, and the ages at which it removes things.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// The longest window is a month: younger rows may still count.
const LONGEST_WINDOW: Duration = Duration::from_hours(32 * 24);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Janitor {
    /// How often housekeeping runs.
    #[serde(deserialize_with = "value::duration")]
    pub interval: Duration,
    /// Rows or files in one step.
    #[serde(deserialize_with = "value::count")]
    pub step: u32,
    /// The age at which temporary files count as abandoned.
    #[serde(deserialize_with = "value::duration")]
    pub temporary_age: Duration,
    /// How long blobs that the index does not know stay in the trash.
    #[serde(deserialize_with = "value::duration")]
    pub trash_ttl: Duration,
    /// The share of the blobs in one step that may go to the trash without an operator's confirmation.
    #[serde(deserialize_with = "value::share")]
    pub orphan_share: f64,
    /// How long usage and its windows are kept.
    #[serde(deserialize_with = "value::duration")]
    pub window_retention: Duration,
    /// The number of months ahead for which partitions are made.
    #[serde(deserialize_with = "value::count")]
    pub months_ahead: u32,
}

impl Janitor {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.some_time(self.interval, &["janitor.interval"]);
        rules.at_least_one(self.step, &["janitor.step"]);
        rules.some_time(self.trash_ttl, &["janitor.trash_ttl"]);
        rules.require(
            self.window_retention >= LONGEST_WINDOW,
            &["janitor.window_retention"],
            "be at least 32days, because the current month must stay",
        );
        rules.at_least_one(self.months_ahead, &["janitor.months_ahead"]);
    }
}
