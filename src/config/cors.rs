//! `[cors]`: pages of other origins that may call the node.

use serde::Deserialize;

use super::{problem::Rules, signatures::is_origin};

/// Every origin.
pub(crate) const EVERY_ORIGIN: &str = "*";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins by comma, or `*` for all; empty: only the node's own pages may call it.
    pub origins: String,
}

impl Cors {
    /// The origins one by one.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.split(',').map(str::trim).filter(|origin| !origin.is_empty())
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.origins().all(|origin| origin == EVERY_ORIGIN || is_origin(origin)),
            &["cors.origins"],
            "be \"*\" or origins by comma, each as in \"https://player.example.com\": scheme, host, and a port that is \
             not the scheme's own, in lower case",
        );
    }
}
