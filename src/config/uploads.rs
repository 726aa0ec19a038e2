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
    /// How many of them may hold whole parts in memory: uploads to S3, and requests of resumable uploads.
    #[serde(deserialize_with = "value::count")]
    pub in_parts: usize,
    /// An upload that sends nothing for this long is aborted.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
    /// Unfinished resumable uploads of one producer.
    #[serde(deserialize_with = "value::count")]
    pub resumable_per_producer: usize,
    /// Bytes of all unfinished resumable uploads, by their declared lengths.
    #[serde(deserialize_with = "value::size")]
    pub resumable_bytes: u64,
    /// A resumable upload to which nothing is added for this long is removed.
    #[serde(deserialize_with = "value::duration")]
    pub resumable_ttl: Duration,
}

impl Uploads {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.max_bytes, &["uploads.max_bytes"]);
        rules.at_least_one(self.concurrent, &["uploads.concurrent"]);
        rules.at_least_one(self.in_parts, &["uploads.in_parts"]);
        rules.some_time(self.idle_timeout, &["uploads.idle_timeout"]);
        rules.at_least_one(self.resumable_per_producer, &["uploads.resumable_per_producer"]);
        rules.at_least_one(self.resumable_bytes, &["uploads.resumable_bytes"]);
        rules.some_time(self.resumable_ttl, &["uploads.resumable_ttl"]);
    }
}
