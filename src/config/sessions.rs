//! `[sessions]`: how long clients' sessions are remembered.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// How long a session is remembered after its last stream.
    #[serde(deserialize_with = "value::duration")]
    pub ttl: Duration,
    /// Sessions in memory.
    #[serde(deserialize_with = "value::count")]
    pub entries: usize,
}

impl Sessions {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.some_time(self.ttl, &["sessions.ttl"]);
        rules.at_least_one(self.entries, &["sessions.entries"]);
    }
}
