//! `[streams]`: limits on all streams together.

use penstock_actors::model::LEAF_BYTES;
use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// Concurrent streams.
    #[serde(deserialize_with = "value::count")]
    pub max_streams: usize,
    /// Bytes of memory for the read-ahead of all streams.
    #[serde(deserialize_with = "value::size")]
    pub read_ahead: u64,
    /// Bytes of memory for verified slices; 0: no cache.
    #[serde(deserialize_with = "value::size")]
    pub memory_cache: u64,
    /// Bytes of the longest range; 0: no limit.
    #[serde(deserialize_with = "value::size")]
    pub max_range_bytes: u64,
    /// Contents whose metadata is remembered.
    #[serde(deserialize_with = "value::count")]
    pub content_entries: u64,
}

impl Streams {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.max_streams, &["streams.max_streams"]);
        rules.require(
            self.read_ahead >= LEAF_BYTES,
            &["streams.read_ahead"],
            "be at least 1MiB, because content is verified in slices of 1 MiB",
        );
        rules.at_least_one(self.content_entries, &["streams.content_entries"]);
    }
}
