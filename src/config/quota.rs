//! `[quota]`: receipts in memory, and the leases that they spend from.

use std::time::Duration;

use penstock_actors::model::LostLease;
use serde::Deserialize;

use super::{problem::Rules, value};

/// Heartbeats that may be lost in a row before an instance counts as lost.
const HEARTBEATS: u32 = 3;

/// The change log keeps its rows for an hour, and an instance must have read them long before.
const LONGEST_POLL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Actors over which the receipts are spread; 0: by the number of cores.
    #[serde(deserialize_with = "value::count")]
    pub shards: usize,
    /// Receipts in memory, over all shards.
    #[serde(deserialize_with = "value::count")]
    pub entries: usize,
    /// How long a receipt is served from memory.
    #[serde(deserialize_with = "value::duration")]
    pub entry_ttl: Duration,
    /// How long it is remembered that a receipt does not exist. Zero: not at all.
    #[serde(deserialize_with = "value::duration")]
    pub negative_ttl: Duration,
    /// How long a refusal for lack of quota is repeated. Zero: each request asks again.
    #[serde(deserialize_with = "value::duration")]
    pub refusal_ttl: Duration,
    /// Requests that may wait for the ledger at the same time.
    #[serde(deserialize_with = "value::count")]
    pub queue: usize,
    /// How long an instance counts as alive after a heartbeat, and how long a stream slot lives without a refresh.
    #[serde(deserialize_with = "value::duration")]
    pub lease_ttl: Duration,
    /// How often an instance sends a heartbeat.
    #[serde(deserialize_with = "value::duration")]
    pub heartbeat: Duration,
    /// How often changes made through other instances are read.
    #[serde(deserialize_with = "value::duration")]
    pub change_poll: Duration,
    /// A lease takes at most one part in this many of what is left.
    #[serde(deserialize_with = "value::count")]
    pub lease_divisor: u64,
    /// The most bytes of one lease.
    #[serde(deserialize_with = "value::size")]
    pub lease_max_bytes: u64,
    /// The most requests of one lease.
    #[serde(deserialize_with = "value::count")]
    pub lease_max_requests: u64,
    /// What happens to the leases of a lost instance.
    pub lost_lease: LostLease,
}

impl Quota {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.entries, &["quota.entries"]);
        rules.some_time(self.entry_ttl, &["quota.entry_ttl"]);
        rules.at_least_one(self.queue, &["quota.queue"]);
        rules.some_time(self.change_poll, &["quota.change_poll"]);
        rules.require(
            self.change_poll <= LONGEST_POLL,
            &["quota.change_poll"],
            format_args!("be at most {}", humantime::format_duration(LONGEST_POLL)),
        );
        rules.some_time(self.heartbeat, &["quota.heartbeat"]);
        rules.require(
            self.lease_ttl > self.heartbeat.saturating_mul(HEARTBEATS),
            &["quota.lease_ttl", "quota.heartbeat"],
            format_args!(
                "be longer than {HEARTBEATS} times quota.heartbeat, which is {}",
                humantime::format_duration(self.heartbeat)
            ),
        );
        rules.at_least_one(self.lease_divisor, &["quota.lease_divisor"]);
        rules.at_least_one(self.lease_max_bytes, &["quota.lease_max_bytes"]);
        rules.at_least_one(self.lease_max_requests, &["quota.lease_max_requests"]);
    }
}
