//! `[catalogue]`: bounds on the cost of searches.

use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Concurrent searches.
    #[serde(deserialize_with = "value::count")]
    pub searches: usize,
    /// The most assets that facets count.
    #[serde(deserialize_with = "value::count")]
    pub facet_assets: usize,
}

impl Catalogue {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.searches, &["catalogue.searches"]);
        rules.at_least_one(self.facet_assets, &["catalogue.facet_assets"]);
    }
}
