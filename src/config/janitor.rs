//! `[janitor]`: housekeeping, its pace and its ages.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// The longest window is a month: what is younger than this may still count.
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
    /// Age at which temporary files count as left behind.
    #[serde(deserialize_with = "value::duration")]
    pub temporary_age: Duration,
    /// How long blobs that the index does not know stay in the trash.
    #[serde(deserialize_with = "value::duration")]
    pub trash_ttl: Duration,
    /// Of the blobs in one step, the share that may go to the trash without an operator's word.
    #[serde(deserialize_with = "value::share")]
    pub orphan_share: f64,
    /// How long usage and its windows are kept.
    #[serde(deserialize_with = "value::duration")]
    pub window_retention: Duration,
    /// Months ahead for which partitions are made.
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
            "be at least 32days, because the month that is under way must stay",
        );
        rules.at_least_one(self.months_ahead, &["janitor.months_ahead"]);
    }
}
