//! `[governance]`: the policy for publishing and selling, and how long the results of policies are kept.

use std::time::Duration;

use penstock_actors::ids::GovernancePolicyId;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{problem::Rules, value};

/// With less, a run might be deleted before a user asks why a request was refused.
const SHORTEST: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governance {
    /// The id of the policy for `POST /v1/assets` and `POST /v1/receipts`; `None`: any asset may be published and sold.
    #[serde(deserialize_with = "policy")]
    pub policy: Option<GovernancePolicyId>,
    /// How long runs are kept, and versions of policies after they were replaced.
    #[serde(deserialize_with = "value::duration")]
    pub run_retention: Duration,
}

impl Governance {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(self.run_retention >= SHORTEST, &["governance.run_retention"], "be at least 24h");
    }
}

fn policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GovernancePolicyId>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        id => id.parse().map(Some).map_err(D::Error::custom),
    }
}
