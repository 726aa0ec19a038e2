//! `[cache]`: the caches of assets, receipts, policies, identities, listings and lineage, in this process and in the
//! tier that instances share.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// With less memory a cache is useless.
const LEAST: u64 = 1 << 20;

/// The shared cache remembers this many of the most used things.
const MOST_WARM: usize = 4096;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Bytes in this process, for all caches together.
    #[serde(deserialize_with = "value::size")]
    pub memory: u64,
    /// How long assets are cached. Zero turns this cache off; the same holds for the others.
    #[serde(deserialize_with = "value::duration")]
    pub assets_ttl: Duration,
    /// How long prices are cached. An entry that shows a price is cached no longer than this.
    #[serde(deserialize_with = "value::duration")]
    pub prices_ttl: Duration,
    /// How long pages of the catalogue are cached.
    #[serde(deserialize_with = "value::duration")]
    pub listings_ttl: Duration,
    /// How long answers about lineage are cached.
    #[serde(deserialize_with = "value::duration")]
    pub lineage_ttl: Duration,
    /// How long quota policies are cached for reads.
    #[serde(deserialize_with = "value::duration")]
    pub policies_ttl: Duration,
    /// How long receipts are cached for reads.
    #[serde(deserialize_with = "value::duration")]
    pub receipts_ttl: Duration,
    /// How long the producer of an identity key is cached.
    #[serde(deserialize_with = "value::duration")]
    pub identities_ttl: Duration,
    /// How long a value is served past its time to live while it is refreshed.
    #[serde(deserialize_with = "value::duration")]
    pub stale: Duration,
    /// How long it is remembered that a thing does not exist.
    #[serde(deserialize_with = "value::duration")]
    pub negative_ttl: Duration,
    /// How many assets, and how many contents, are loaded before they are requested. Zero: none.
    #[serde(deserialize_with = "value::count")]
    pub warm: usize,
    /// How often that is done, in addition to the start.
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
