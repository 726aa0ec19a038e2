//! The conditions, and their evaluation.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Facts, TERMS, Truth};
use crate::{ids::ProducerId, model::is_of_media_range};

/// Members of `policyMeta` that hold licences, and classifications: the first one present counts.
pub(super) const LICENCE_FACETS: &[&str] = &["license", "licence", "dct:license"];
pub(super) const CLASSIFICATION_FACETS: &[&str] = &["classification", "dataClassification"];

/// A place in `policyMeta`: the name of a member, or a JSON Pointer (RFC 6901) when it begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetPath(pub String);

impl FacetPath {
    /// The value there. Null and empty texts say nothing, so they count as absent.
    pub(super) fn find<'a>(&self, meta: &'a Value) -> Option<&'a Value> {
        let found = if self.0.starts_with('/') { meta.pointer(&self.0) } else { meta.get(&self.0) };
        found.filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    pub(super) fn fact(&self) -> String {
        if self.0.starts_with('/') { format!("policyMeta{}", self.0) } else { format!("policyMeta.{}", self.0) }
    }
}

/// A requirement on an asset, or the choice of the assets that a rule applies to.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// All of these members are present.
    Facets(Vec<FacetPath>),
    /// This member is present, and is one of these texts, numbers or booleans.
    Facet {
        path: FacetPath,
        values: Vec<Value>,
    },
    /// The asset has licences, and each of them is listed; case does not matter. Does not hold when none is listed.
    Licence(Vec<String>),
    Classification(Vec<String>),
    Producer(Vec<ProducerId>),
    /// Media types, or families such as `video/*`.
    MediaType(Vec<String>),
    MaxSizeBytes(u64),
    /// Days since the asset was made.
    MaxAgeDays(u32),
    /// How far back the origin is known.
    LineageDepth {
        min: Option<u32>,
        max: Option<u32>,
    },
}

impl Condition {
    pub fn truth(&self, facts: &Facts<'_>, now: Timestamp) -> Truth {
        match self {
            Self::All(parts) => parts.iter().map(|part| part.truth(facts, now)).min().unwrap_or(Truth::Yes),
            Self::Any(parts) => parts.iter().map(|part| part.truth(facts, now)).max().unwrap_or(Truth::No),
            Self::Not(part) => !part.truth(facts, now),
            Self::Facets(paths) => Truth::of(paths.iter().all(|path| path.find(facts.policy_meta).is_some())),
            Self::Facet { path, values } => {
                let found = path.find(facts.policy_meta);
                Truth::of(found.is_some_and(|found| values.iter().any(|value| is_same(value, found))))
            }
            Self::Licence(listed) => are_listed(terms(LICENCE_FACETS, facts.policy_meta), listed),
            Self::Classification(listed) => are_listed(terms(CLASSIFICATION_FACETS, facts.policy_meta), listed),
            Self::Producer(producers) => Truth::of(producers.contains(&facts.producer_id)),
            Self::MediaType(ranges) => Truth::of(ranges.iter().any(|range| is_of_media_range(facts.media_type, range))),
            Self::MaxSizeBytes(most) => Truth::of(facts.size_bytes <= *most),
            Self::MaxAgeDays(most) => {
                Truth::of(now.duration_since(facts.created_at) <= SignedDuration::from_hours(24 * i64::from(*most)))
            }
            Self::LineageDepth { min, max } => depth_fits(*min, *max, facts),
        }
    }

    /// How far lineage must be followed to evaluate this condition.
    pub(super) fn lineage_depth(&self) -> Option<u32> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().filter_map(Self::lineage_depth).max(),
            Self::Not(part) => part.lineage_depth(),
            // One edge more proves that there are too many.
            Self::LineageDepth { min, max } => (*min).max(max.map(|most| most + 1)),
            _ => None,
        }
    }

    /// The name of its member in a document.
    pub(super) const fn keyword(&self) -> &'static str {
        match self {
            Self::All(_) => "all",
            Self::Any(_) => "any",
            Self::Not(_) => "not",
            Self::Facets(_) => "facets",
            Self::Facet { .. } => "facet",
            Self::Licence(_) => "licence",
            Self::Classification(_) => "classification",
            Self::Producer(_) => "producer",
            Self::MediaType(_) => "mediaType",
            Self::MaxSizeBytes(_) => "maxSizeBytes",
            Self::MaxAgeDays(_) => "maxAgeDays",
            Self::LineageDepth { .. } => "lineageDepth",
        }
    }
}

/// The value of the first of these members that is present. Null and empty texts say nothing, so they count as absent.
pub(super) fn terms<'a>(members: &'static [&'static str], meta: &'a Value) -> Option<(&'static str, &'a Value)> {
    let says = |value: &&Value| !value.is_null() && value.as_str() != Some("");
    members.iter().find_map(|&member| meta.get(member).filter(says).map(|value| (member, value)))
}

/// Whether there is a text or a list of texts, and each one is listed. Unknown when some are listed and others are not,
/// or when the value is not a short enough list of texts: adding values must never pass a list of allowed values or one
/// of forbidden values.
fn are_listed(terms: Option<(&str, &Value)>, listed: &[String]) -> Truth {
    let is_listed =
        |term: &Value| Some(listed.iter().any(|listed| listed.eq_ignore_ascii_case(term.as_str().unwrap_or_default())));
    match terms.map(|(_, terms)| terms) {
        None => Truth::No,
        Some(term @ Value::String(_)) => Truth::of_all([is_listed(term)]),
        Some(Value::Array(terms)) if terms.is_empty() => Truth::No,
        Some(Value::Array(terms)) if terms.len() <= TERMS => {
            Truth::of_all(terms.iter().map(|term| term.as_str().and_then(|_| is_listed(term))))
        }
        Some(_) => Truth::Unknown,
    }
}

/// Whether two values are equal. Numbers compare by value, exactly, however they are written.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || worth(one.as_str()).is_some_and(|one| Some(one) == worth(other.as_str()))
        }
        _ => one == other,
    }
}

/// A number in normal form: whether it is negative, its digits from the first to the last that is not zero, and the
/// power of ten of the last digit. `None` where that power exceeds 64 bits.
fn worth(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let shortened = digits.trim_end_matches('0');
    let significant = shortened.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let ends_at = i64::try_from(digits.len() - shortened.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let power = power.parse::<i64>().ok()?.checked_add(ends_at)?;
    Some((whole.starts_with('-'), significant.to_owned(), power))
}

fn depth_fits(min: Option<u32>, max: Option<u32>, facts: &Facts<'_>) -> Truth {
    let Some(ancestry) = facts.ancestry else { return Truth::Unknown };
    // The origin that a cut walk has found is certain; beyond it there may be more.
    let open = if ancestry.cut { Truth::Unknown } else { Truth::No };
    let deep_enough = min.map_or(Truth::Yes, |least| if ancestry.depth >= least { Truth::Yes } else { open });
    let too_deep = max.map_or(Truth::No, |most| if ancestry.depth > most { Truth::Yes } else { open });
    deep_enough.min(!too_deep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_when_they_are_worth_the_same() {
        let is_same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
            assert_eq!(super::is_same(&one, &other), super::is_same(&other, &one));
            super::is_same(&one, &other)
        };
        for (one, other) in [
            ("30", "30.0"),
            ("30", "3e1"),
            ("30.00", "3.0e+1"),
            ("0.03", "3e-2"),
            ("0", "-0.0e5"),
            ("1e400", "10.0e399"),
            ("100", "100"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert!(is_same(one, other), "{one} and {other}");
        }
        for (one, other) in [
            ("30", "-30"),
            ("30", "3"),
            ("30", "300"),
            ("12345678901234567890123", "12345678901234567890124"),
            ("9007199254740993", "9007199254740992.0"),
            ("1e400", "1e401"),
            ("1e99999999999999999999", "0.1"),
            ("0", "1"),
            ("1", "true"),
        ] {
            assert!(!is_same(one, other), "{one} and {other}");
        }
    }
}
