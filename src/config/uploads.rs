//! `[uploads]`: limits on uploads.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uploads {
    /// Bytes of the largest content.
    #[serde(deserialize_with = "value::size")]
    pub max_bytes: u64,
    /// Concurrent uploads.
    #[serde(deserialize_with = "value::count")]
    pub concurrent: usize,
    /// An upload that sends nothing for this long is aborted.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
}

impl Uploads {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.max_bytes, &["uploads.max_bytes"]);
        rules.at_least_one(self.concurrent, &["uploads.concurrent"]);
        rules.some_time(self.idle_timeout, &["uploads.idle_timeout"]);
    }
}
