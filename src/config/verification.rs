//! `[verification]` and `[lifecycle]`: background work on stored content.

use std::time::Duration;

use serde::Deserialize;

use super::{Storage, StorageBackend, problem::Rules, s3::S3, value};

/// As fast as the storage can.
const NO_RATE: u64 = 0;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Bytes per second that the scan of all content reads; 0: no scan.
    #[serde(deserialize_with = "value::size")]
    pub rate: u64,
    /// The time from the start of one scan to the start of the next.
    #[serde(deserialize_with = "value::duration")]
    pub every: Duration,
    /// The most contents per hour that an instance reports as missing.
    #[serde(deserialize_with = "value::count")]
    pub missing_per_hour: u32,
    /// How long results are kept.
    #[serde(deserialize_with = "value::duration")]
    pub retention: Duration,
    /// How often the node checks whether work is due.
    #[serde(deserialize_with = "value::duration")]
    pub interval: Duration,
}

impl Verification {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.some_time(self.every, &["verification.every"]);
        rules.at_least_one(self.missing_per_hour, &["verification.missing_per_hour"]);
        rules.some_time(self.retention, &["verification.retention"]);
        rules.some_time(self.interval, &["verification.interval"]);
    }

    /// The rate of the scan, if there is one.
    pub fn walk_rate(&self) -> Option<u64> {
        (self.rate != NO_RATE).then_some(self.rate)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// Content that was not used for this long moves to the warm tier; 0: none does.
    #[serde(deserialize_with = "value::duration")]
    pub warm_after: Duration,
    /// Content that was not used for this long moves to the cold tier; 0: none does.
    #[serde(deserialize_with = "value::duration")]
    pub cold_after: Duration,
    /// Bytes per second that automatic moves read.
    #[serde(deserialize_with = "value::size")]
    pub rate: u64,
    /// How long the old copy of moved content is kept.
    #[serde(deserialize_with = "value::duration")]
    pub grace: Duration,
}

/// Uses are recorded by the day.
const SHORTEST_AGE: Duration = Duration::from_secs(24 * 3600);

impl Lifecycle {
    /// An age, if it is set.
    pub fn age(after: Duration) -> Option<Duration> {
        (!after.is_zero()).then_some(after)
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        for (age, key) in [(self.warm_after, &["lifecycle.warm_after"]), (self.cold_after, &["lifecycle.cold_after"])] {
            rules.require(
                age.is_zero() || age >= SHORTEST_AGE,
                key,
                "be 0s or at least 1day, because uses are recorded by the day",
            );
        }
        rules.require(
            self.warm_after.is_zero() || self.cold_after.is_zero() || self.warm_after < self.cold_after,
            &["lifecycle.cold_after", "lifecycle.warm_after"],
            "be longer than lifecycle.warm_after",
        );
        rules.at_least_one(self.rate, &["lifecycle.rate"]);
        rules.some_time(self.grace, &["lifecycle.grace"]);
    }

    /// The target tiers must exist, and a sweep must not undo a move.
    pub(super) fn check_with(&self, storage: &Storage, s3: &S3, temporary_age: Duration, rules: &mut Rules) {
        let (has_warm, has_cold) = match storage.backend {
            StorageBackend::Fs => {
                (!storage.warm_root.as_os_str().is_empty(), !storage.cold_root.as_os_str().is_empty())
            }
            StorageBackend::S3 => (!s3.bucket_warm.is_empty(), !s3.bucket_cold.is_empty()),
        };
        rules.require(
            self.warm_after.is_zero() || has_warm,
            &["lifecycle.warm_after", "storage.warm_root", "s3.bucket_warm"],
            "be 0s without a warm tier (storage.warm_root or s3.bucket_warm)",
        );
        rules.require(
            self.cold_after.is_zero() || has_cold,
            &["lifecycle.cold_after", "storage.cold_root", "s3.bucket_cold"],
            "be 0s without a cold tier (storage.cold_root or s3.bucket_cold)",
        );
        rules.require(
            self.grace < temporary_age || !(has_warm || has_cold),
            &["lifecycle.grace", "janitor.temporary_age"],
            "be shorter than janitor.temporary_age, or a sweep restores the old copy that a move has retired",
        );
    }
}
