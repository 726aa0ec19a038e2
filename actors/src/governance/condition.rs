//! Conditions: whether one holds.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Facts, TERMS, Truth};
use crate::{ids::ProducerId, model::is_of_media_range};

/// Members of `policyMeta` that hold licences, and classifications: the first that is there counts.
pub(super) const LICENCE_FACETS: &[&str] = &["license", "licence", "dct:license"];
pub(super) const CLASSIFICATION_FACETS: &[&str] = &["classification", "dataClassification"];

/// A place in `policyMeta`: the name of a member, or a JSON Pointer (RFC 6901) when it begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetPath(pub String);

impl FacetPath {
    /// What is there. Null and empty texts say nothing, so they count as nothing.
    pub(super) fn find<'a>(&self, meta: &'a Value) -> Option<&'a Value> {
        let found = if self.0.starts_with('/') { meta.pointer(&self.0) } else { meta.get(&self.0) };
        found.filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    pub(super) fn fact(&self) -> String {
        if self.0.starts_with('/') { format!("policyMeta{}", self.0) } else { format!("policyMeta.{}", self.0) }
    }
}

/// What is required of an asset, or says which assets a rule is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// These are there.
    Facets(Vec<FacetPath>),
    /// This is there, and is one of these: texts, numbers or booleans.
    Facet {
        path: FacetPath,
        values: Vec<Value>,
    },
    /// There are licences, and all of them are of these; letters of either case.
    Licence(Vec<String>),
    Classification(Vec<String>),
    Producer(Vec<ProducerId>),
    /// Media types, or families such as `video/*`.
    MediaType(Vec<String>),
    MaxSizeBytes(u64),
    /// Since the asset was made.
    MaxAgeDays(u32),
    /// How far the origin is known.
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
                Truth::of(path.find(facts.policy_meta).is_some_and(|found| values.contains(found)))
            }
            Self::Licence(allowed) => Truth::of(all_are_of(terms(LICENCE_FACETS, facts.policy_meta), allowed)),
            Self::Classification(allowed) => {
                Truth::of(all_are_of(terms(CLASSIFICATION_FACETS, facts.policy_meta), allowed))
            }
            Self::Producer(producers) => Truth::of(producers.contains(&facts.producer_id)),
            Self::MediaType(ranges) => Truth::of(ranges.iter().any(|range| is_of_media_range(facts.media_type, range))),
            Self::MaxSizeBytes(most) => Truth::of(facts.size_bytes <= *most),
            Self::MaxAgeDays(most) => {
                Truth::of(now.duration_since(facts.created_at) <= SignedDuration::from_hours(24 * i64::from(*most)))
            }
            Self::LineageDepth { min, max } => depth_fits(*min, *max, facts),
        }
    }

    /// How far lineage must be followed to tell whether this holds.
    pub(super) fn lineage_depth(&self) -> Option<u32> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().filter_map(Self::lineage_depth).max(),
            Self::Not(part) => part.lineage_depth(),
            // One edge farther tells that there are too many.
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

/// The value of the first of these members that is there.
pub(super) fn terms<'a>(members: &'static [&'static str], meta: &'a Value) -> Option<(&'static str, &'a Value)> {
    members.iter().find_map(|&member| meta.get(member).filter(|value| !value.is_null()).map(|value| (member, value)))
}

/// Whether there is a text, or a list of texts, and each of them is allowed.
fn all_are_of(terms: Option<(&str, &Value)>, allowed: &[String]) -> bool {
    let is_allowed = |term: &Value| {
        term.as_str().is_some_and(|term| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(term)))
    };
    match terms {
        Some((_, Value::Array(terms))) => (1..=TERMS).contains(&terms.len()) && terms.iter().all(is_allowed),
        Some((_, term)) => is_allowed(term),
        None => false,
    }
}

fn depth_fits(min: Option<u32>, max: Option<u32>, facts: &Facts<'_>) -> Truth {
    let Some(ancestry) = facts.ancestry else { return Truth::Unknown };
    // What a walk that was cut has found is there; what it has not found may be there too.
    let open = if ancestry.cut { Truth::Unknown } else { Truth::No };
    let deep_enough = min.map_or(Truth::Yes, |least| if ancestry.depth >= least { Truth::Yes } else { open });
    let too_deep = max.map_or(Truth::No, |most| if ancestry.depth > most { Truth::Yes } else { open });
    deep_enough.min(!too_deep)
}
