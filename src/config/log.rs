//! `[log]`: what is logged, and in which format.

use serde::Deserialize;

use super::problem::Rules;
use crate::telemetry::{LogFormat, logs};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level, or directives as `tracing_subscriber::EnvFilter` reads them.
    pub level: String,
    pub format: LogFormat,
}

impl Log {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            logs::read(&self.level).is_ok(),
            &["log.level"],
            "be error, warn, info, debug, trace, or directives such as info,penstock::http=debug",
        );
    }
}
