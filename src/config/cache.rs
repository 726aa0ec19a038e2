//! `[cache]`: what is kept of assets, receipts, policies, identities, listings and lineage, in this process and where instances share it.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// Memory below which there is no cache worth the name.
const LEAST: u64 = 1 << 20;

/// What the shared cache remembers of what is used most.
const MOST_WARM: usize = 4096;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Bytes in this process, over all caches.
    #[serde(deserialize_with = "value::size")]
    pub memory: u64,
    /// How long assets are kept. Zero turns this cache off, as it does for the others.
    #[serde(deserialize_with = "value::duration")]
    pub assets_ttl: Duration,
    /// How long prices are kept. What shows a price is kept for no longer.
    #[serde(deserialize_with = "value::duration")]
    pub prices_ttl: Duration,
    /// How long pages of the catalogue are kept.
    #[serde(deserialize_with = "value::duration")]
    pub listings_ttl: Duration,
    /// How long answers about lineage are kept.
    #[serde(deserialize_with = "value::duration")]
    pub lineage_ttl: Duration,
    /// How long quota policies are kept for those who look at them.
    #[serde(deserialize_with = "value::duration")]
    pub policies_ttl: Duration,
    /// How long it is kept what a receipt says.
    #[serde(deserialize_with = "value::duration")]
    pub receipts_ttl: Duration,
    /// How long it is believed whom an identity key speaks for.
    #[serde(deserialize_with = "value::duration")]
    pub identities_ttl: Duration,
    /// How long a value is served past its time to live while it is refreshed.
    #[serde(deserialize_with = "value::duration")]
    pub stale: Duration,
    /// How long it is remembered that there is no such thing.
    #[serde(deserialize_with = "value::duration")]
    pub negative_ttl: Duration,
    /// Assets and contents each that are loaded before somebody asks. Zero: none.
    #[serde(deserialize_with = "value::count")]
    pub warm: usize,
    /// How often that is done, beside at the start.
    #[serde(deserialize_with = "value::duration")]
    pub warm_interval: Duration,
    /// How long to wait for a value that another instance is loading.
    #[serde(deserialize_with = "value::duration")]
    pub patience: Duration,
}

impl Cache {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(self.memory >= LEAST, &["cache.memory"], "be at least 1MiB");
        rules.require(self.warm <= MOST_WARM, &["cache.warm"], format_args!("be at most {MOST_WARM}"));
        rules.some_time(self.warm_interval, &["cache.warm_interval"]);
    }
}
