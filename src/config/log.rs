//! `[log]`: what is logged, and in which format.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::problem::Rules;
use crate::telemetry::LogFormat;

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
            !self.level.is_empty() && EnvFilter::try_new(&self.level).is_ok(),
            &["log.level"],
            "be error, warn, info, debug, trace, or directives such as info,penstock::http=debug",
        );
    }
}
