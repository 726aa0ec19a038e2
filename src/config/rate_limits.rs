//! `[rate_limits]`: requests per minute and client, by class of calls.

use std::{fmt, num::NonZeroU32};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::{problem::Rules, value};
use crate::route_class::RouteClass;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// If it is not set, a given Redis selects Redis.
    pub backend: RateLimitBackend,
    /// The prefix of the keys in Redis; empty: Redis's prefix and `rate:`.
    pub key_prefix: String,
    /// For the classes that are not set.
    #[serde(deserialize_with = "value::count")]
    pub default: u32,
    pub content: Rate,
    pub streaming: Rate,
    pub catalogue: Rate,
    pub receipts: Rate,
    pub purchases: Rate,
    pub lineage: Rate,
    pub admin: Rate,
    pub sign_in: Rate,
    /// Subjects that an instance remembers.
    #[serde(deserialize_with = "value::count")]
    pub subjects: usize,
}

/// Where requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBackend {
    /// In each instance separately.
    Memory,
    /// In Redis, for all instances together.
    Redis,
}

/// Requests per minute of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Default,
    /// 0 means no limit.
    PerMinute(u32),
}

impl RateLimits {
    /// Requests per minute of a class; `None`: no limit.
    pub fn per_minute(&self, class: RouteClass) -> Option<NonZeroU32> {
        let rate = match class {
            RouteClass::Content => self.content,
            RouteClass::Streaming => self.streaming,
            RouteClass::Catalogue => self.catalogue,
            RouteClass::Receipts => self.receipts,
            RouteClass::Purchases => self.purchases,
            RouteClass::Lineage => self.lineage,
            RouteClass::Admin => self.admin,
            RouteClass::SignIn => self.sign_in,
            RouteClass::Unmatched => Rate::Default,
            RouteClass::Operations => Rate::PerMinute(0),
        };
        NonZeroU32::new(match rate {
            Rate::Default => self.default,
            Rate::PerMinute(requests) => requests,
        })
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.subjects, &["rate_limits.subjects"]);
        rules.require(
            !self.key_prefix.contains(['{', '}']),
            &["rate_limits.key_prefix"],
            "have no braces, which on a cluster would keep all of its keys on one node",
        );
    }
}

/// A number, also as a text, because the environment has only texts; or the word.
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PerMinute;

        impl Visitor<'_> for PerMinute {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("requests per minute such as 600, 0 for no limit, or \"default\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Rate, E> {
                u32::try_from(number).map(Rate::PerMinute).map_err(|_| value::must_be(&self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Rate, E> {
                match text.trim() {
                    "default" => Ok(Rate::Default),
                    number => number.parse().map(Rate::PerMinute).map_err(|_| value::must_be(&self)),
                }
            }
        }

        deserializer.deserialize_any(PerMinute)
    }
}
