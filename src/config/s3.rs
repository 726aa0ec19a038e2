//! `[s3]`: the buckets, how to reach them, and limits on uploads to them.

use std::time::Duration;

use serde::Deserialize;

use super::{Secret, problem::Rules, value};

/// S3's limit on the parts of an upload.
pub(crate) const MOST_PARTS: usize = 10_000;

/// Attempts to send a body; all of them together have so many times `part_timeout`.
pub(crate) const SENDING_ATTEMPTS: u32 = 3;

/// S3's minimum for all parts of an upload but the last.
const SMALLEST_PART: u64 = 5 << 20;

/// Well below S3's maximum, because a part is held in memory.
const LARGEST_PART: u64 = 1 << 30;

/// A stream waits 30 s for storage, for the look-up and the first read together.
const LONGEST_RETRY_TIME: Duration = Duration::from_secs(25);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub client: S3Client,
    /// A URL; empty: Amazon's.
    pub endpoint: String,
    /// A URL; empty: `endpoint`.
    pub public_endpoint: String,
    pub region: String,
    /// The bucket that takes new content.
    pub bucket_hot: String,
    /// Empty: none.
    pub bucket_warm: String,
    /// Empty: none.
    pub bucket_cold: String,
    /// The prefix of all keys.
    pub prefix: String,
    /// Empty: from the environment, or the instance's role.
    pub access_key: Secret,
    pub secret_key: Secret,
    /// Bytes of a part of an upload.
    #[serde(deserialize_with = "value::size")]
    pub part_size: u64,
    /// Parts of one upload that are sent concurrently.
    #[serde(deserialize_with = "value::count")]
    pub parts_in_flight: usize,
    /// The longest wait for a new connection.
    #[serde(deserialize_with = "value::duration")]
    pub connect_timeout: Duration,
    /// The longest wait for an answer, and for its next bytes.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
    /// The longest time of one attempt to send a part.
    #[serde(deserialize_with = "value::duration")]
    pub part_timeout: Duration,
    /// The longest time of a call that sends no part, all attempts included.
    #[serde(deserialize_with = "value::duration")]
    pub retry_time: Duration,
}

/// The library that accesses S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum S3Client {
    #[default]
    ObjectStore,
    /// Only in binaries built with the feature `rusoto`.
    Rusoto,
}

impl S3 {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.client == S3Client::ObjectStore || cfg!(feature = "rusoto"),
            &["s3.client"],
            "be \"object_store\": this binary was built without the feature `rusoto`",
        );
        for (url, key) in [(&self.endpoint, &["s3.endpoint"]), (&self.public_endpoint, &["s3.public_endpoint"])] {
            rules.require(url.is_empty() || is_endpoint(url), key, "be of the form https://host or http://host:port");
        }
        rules.require(
            !self.region.is_empty(),
            &["s3.region"],
            "name a region; any name will do if the storage has no regions",
        );
        rules.require(
            self.prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
                && self.prefix.trim_matches('/').split('/').all(|part| part != "." && part != ".."),
            &["s3.prefix"],
            "have only letters, digits, \"-\", \"_\", \".\" and \"/\"",
        );
        rules.require(
            self.access_key.is_empty() == self.secret_key.is_empty(),
            &["s3.access_key", "s3.secret_key"],
            "be given together with s3.secret_key, or neither of them",
        );
        let Self { bucket_hot: hot, bucket_warm: warm, bucket_cold: cold, .. } = self;
        let differ = |one: &str, other: &str| one.is_empty() || one != other;
        rules.require(differ(warm, hot), &["s3.bucket_warm", "s3.bucket_hot"], "be another bucket than s3.bucket_hot");
        rules.require(
            differ(cold, hot) && differ(cold, warm),
            &["s3.bucket_cold", "s3.bucket_hot", "s3.bucket_warm"],
            "be another bucket than s3.bucket_hot and s3.bucket_warm",
        );
        rules.require(
            (SMALLEST_PART..=LARGEST_PART).contains(&self.part_size),
            &["s3.part_size"],
            "be 5MiB to 1GiB: S3 does not accept smaller ones, and each is held in memory",
        );
        rules.at_least_one(self.parts_in_flight, &["s3.parts_in_flight"]);
        rules.some_time(self.connect_timeout, &["s3.connect_timeout"]);
        rules.some_time(self.idle_timeout, &["s3.idle_timeout"]);
        rules.some_time(self.part_timeout, &["s3.part_timeout"]);
        rules.require(
            self.retry_time >= self.idle_timeout && self.retry_time <= LONGEST_RETRY_TIME,
            &["s3.retry_time", "s3.idle_timeout"],
            "be at least s3.idle_timeout and at most 25s: a stream waits 30 s for its first bytes",
        );
    }

    /// The largest content that its parts can hold.
    pub(super) const fn largest_content(&self) -> u64 {
        self.part_size.saturating_mul(MOST_PARTS as u64)
    }

    /// The age at which a sweep can conclude that no upload will reference the data any more.
    pub(super) fn sending_times_two(&self) -> Duration {
        self.part_timeout * SENDING_ATTEMPTS * 2
    }
}

fn is_endpoint(url: &str) -> bool {
    let host = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    host.is_some_and(|host| !host.trim_end_matches('/').is_empty() && !host.contains(['@', '?', '#', ' ']))
}
