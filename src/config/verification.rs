//! `[verification]` and `[lifecycle]`: what is done about stored content in the background.

use std::time::Duration;

use serde::Deserialize;

use super::{Storage, StorageBackend, problem::Rules, s3::S3, value};

/// As fast as any storage gives.
const NO_RATE: u64 = 0;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Bytes a second that the walk over all content reads; 0: there is no walk.
    #[serde(deserialize_with = "value::size")]
    pub rate: u64,
    /// From the beginning of a lap of the walk to that of the next one.
    #[serde(deserialize_with = "value::duration")]
    pub every: Duration,
    /// Contents that an instance tells to be missing within an hour, at most.
    #[serde(deserialize_with = "value::count")]
    pub missing_per_hour: u32,
    /// How long it is kept what was found.
    #[serde(deserialize_with = "value::duration")]
    pub retention: Duration,
    /// How often there is a look at what is due.
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

    /// The rate of the walk, if there is one.
    pub fn walk_rate(&self) -> Option<u64> {
        (self.rate != NO_RATE).then_some(self.rate)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// Content that was not used for so long goes to the warm tier; 0: none does.
    #[serde(deserialize_with = "value::duration")]
    pub warm_after: Duration,
    /// Content that was not used for so long goes to the cold tier; 0: none does.
    #[serde(deserialize_with = "value::duration")]
    pub cold_after: Duration,
    /// Bytes a second that moves read which nobody asked for.
    #[serde(deserialize_with = "value::size")]
    pub rate: u64,
    /// How long the old copy of moved content is kept.
    #[serde(deserialize_with = "value::duration")]
    pub grace: Duration,
}

/// Uses are known to the day.
const SHORTEST_AGE: Duration = Duration::from_secs(24 * 3600);

impl Lifecycle {
    /// An age, where there is one.
    pub fn age(after: Duration) -> Option<Duration> {
        (!after.is_zero()).then_some(after)
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        for (age, key) in [(self.warm_after, &["lifecycle.warm_after"]), (self.cold_after, &["lifecycle.cold_after"])] {
            rules.require(
                age.is_zero() || age >= SHORTEST_AGE,
                key,
                "be 0s or at least 1day, because uses are known to the day",
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

    /// Tiers that content is to go to must be there, and a sweep must not undo what a move does.
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
            "be shorter than janitor.temporary_age, or a sweep brings back what a move has left",
        );
    }
}
