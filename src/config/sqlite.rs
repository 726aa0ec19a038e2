//! `[sqlite]`: the embedded database.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// Connections for reading, each on a thread of its own.
    #[serde(deserialize_with = "value::count")]
    pub readers: usize,
    /// How long to wait for another process's lock.
    #[serde(deserialize_with = "value::duration")]
    pub busy_timeout: Duration,
}

impl Sqlite {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.readers, &["sqlite.readers"]);
    }
}
