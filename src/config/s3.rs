//! `[s3]`: the buckets, how they are reached, and what uploads to them may take.

use std::time::Duration;

use serde::Deserialize;

use super::{Secret, problem::Rules, value};
use crate::adapters::s3::{ClientKind, MOST_PARTS, SENDING_ATTEMPTS};

/// What S3 allows for all parts of an upload but the last.
const SMALLEST_PART: u64 = 5 << 20;

/// Well below what S3 allows, since a part is held in memory.
const LARGEST_PART: u64 = 1 << 30;

/// A stream waits 30 s for storage, for the look-up and the first read together.
const LONGEST_RETRY_TIME: Duration = Duration::from_secs(25);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub client: ClientKind,
    /// A URL; empty means Amazon's.
    pub endpoint: String,
    /// A URL; empty means `endpoint`.
    pub public_endpoint: String,
    pub region: String,
    /// The bucket that takes new content.
    pub bucket_hot: String,
    /// Empty means none.
    pub bucket_warm: String,
    /// Empty means none.
    pub bucket_cold: String,
    /// Begins all keys.
    pub prefix: String,
    /// Empty means what the environment, or the instance's role, gives.
    pub access_key: Secret,
    pub secret_key: Secret,
    /// Bytes of a part of an upload.
    #[serde(deserialize_with = "value::size")]
    pub part_size: u64,
    /// Parts of one upload that are being sent at a time.
    #[serde(deserialize_with = "value::count")]
    pub parts_in_flight: usize,
    /// Longest wait for a new connection.
    #[serde(deserialize_with = "value::duration")]
    pub connect_timeout: Duration,
    /// Longest wait for an answer, and for the next bytes of one.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
    /// Longest that one attempt to send a part may take.
    #[serde(deserialize_with = "value::duration")]
    pub part_timeout: Duration,
    /// Longest that a call that sends no part may take, with all its attempts.
    #[serde(deserialize_with = "value::duration")]
    pub retry_time: Duration,
}

impl S3 {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.client == ClientKind::ObjectStore || cfg!(feature = "rusoto"),
            &["s3.client"],
            "be \"object_store\": this binary was built without the feature `rusoto`",
        );
        for (url, key) in [(&self.endpoint, &["s3.endpoint"]), (&self.public_endpoint, &["s3.public_endpoint"])] {
            rules.require(url.is_empty() || is_endpoint(url), key, "be of the form https://host or http://host:port");
        }
        rules.require(!self.region.is_empty(), &["s3.region"], "name a region, any one where the storage has none");
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
            "be 5MiB to 1GiB: S3 takes no smaller ones, and each is held in memory",
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

    /// The largest content that its parts can make.
    pub(super) const fn largest_content(&self) -> u64 {
        self.part_size.saturating_mul(MOST_PARTS as u64)
    }

    /// How old data must be for a sweep to tell that no upload is about to name it.
    pub(super) fn sending_times_two(&self) -> Duration {
        self.part_timeout * SENDING_ATTEMPTS * 2
    }
}

fn is_endpoint(url: &str) -> bool {
    let host = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    host.is_some_and(|host| !host.trim_end_matches('/').is_empty() && !host.contains(['@', '?', '#', ' ']))
}
