//! `[console]`: sessions of administrators at the console.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// How long a session lasts after the sign-in.
    #[serde(deserialize_with = "value::duration")]
    pub session_ttl: Duration,
}

impl Console {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.some_time(self.session_ttl, &["console.session_ttl"]);
    }
}
