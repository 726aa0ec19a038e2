//! Why a condition does not hold: the parts that caused it, and the values that they looked at.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    EVIDENCE, Evidence, Facts,
    condition::{CLASSIFICATION_FACETS, Condition, LICENCE_FACETS, terms},
};

/// Values of a list that an explanation names.
const NAMED: usize = 8;

/// Bytes of a value that evidence shows.
const SHOWN: usize = 200;

/// Gathers evidence.
pub(super) struct Explainer<'a> {
    facts: &'a Facts<'a>,
    now: Timestamp,
    evidence: Vec<Evidence>,
}

impl<'a> Explainer<'a> {
    pub(super) const fn new(facts: &'a Facts<'a>, now: Timestamp) -> Self {
        Self { facts, now, evidence: Vec::new() }
    }

    pub(super) fn into_evidence(self) -> Vec<Evidence> {
        self.evidence
    }

    /// Explains why a condition is not `wanted`; adds nothing where it is. Otherwise it adds at least one piece of
    /// evidence, because a condition that is not as wanted has a part that is not.
    pub(super) fn explain(&mut self, condition: &Condition, path: &mut String, wanted: bool) {
        if condition.truth(self.facts, self.now).is(wanted) {
            return;
        }
        let length = path.len();
        path.push('.');
        path.push_str(condition.keyword());
        match condition {
            Condition::All(parts) | Condition::Any(parts) => {
                let inner = path.len();
                for (number, part) in parts.iter().enumerate() {
                    path.push_str(&format!("[{number}]"));
                    self.explain(part, path, wanted);
                    path.truncate(inner);
                }
            }
            Condition::Not(part) => self.explain(part, path, !wanted),
            Condition::Facets(paths) => {
                for facet in paths {
                    let found = facet.find(self.facts.policy_meta);
                    if found.is_some() != wanted {
                        self.note(path, facet.fact(), wanted, "there".into(), found);
                    }
                }
            }
            single => self.single(single, path, wanted),
        }
        path.truncate(length);
    }

    /// A condition with a single test.
    fn single(&mut self, condition: &Condition, path: &str, wanted: bool) {
        let facts = self.facts;
        let of_terms = |members: &'static [&'static str]| {
            let found = terms(members, facts.policy_meta);
            (format!("policyMeta.{}", found.map_or(members[0], |(member, _)| member)), found.map(|(_, value)| value))
        };
        match condition {
            Condition::Facet { path: facet, values } => {
                let found = facet.find(facts.policy_meta);
                self.note(path, facet.fact(), wanted, one_of(values.iter()), found);
            }
            Condition::Licence(allowed) => {
                let (fact, found) = of_terms(LICENCE_FACETS);
                self.note(path, fact, wanted, one_of(allowed.iter()), found);
            }
            Condition::Classification(allowed) => {
                let (fact, found) = of_terms(CLASSIFICATION_FACETS);
                self.note(path, fact, wanted, one_of(allowed.iter()), found);
            }
            Condition::Producer(producers) => {
                let found = facts.producer_id.to_string().into();
                self.note(path, "producerId".into(), wanted, one_of(producers.iter()), Some(&found));
            }
            Condition::MediaType(ranges) => {
                self.note(path, "mediaType".into(), wanted, one_of(ranges.iter()), Some(&facts.media_type.into()));
            }
            Condition::MaxSizeBytes(most) => {
                let expected = format!("at most {most}");
                self.note(path, "sizeBytes".into(), wanted, expected, Some(&facts.size_bytes.into()));
            }
            Condition::MaxAgeDays(most) => {
                let expected = format!("at most {most} days ago");
                self.note(path, "createdAt".into(), wanted, expected, Some(&facts.created_at.to_string().into()));
            }
            Condition::LineageDepth { min, max } => {
                let expected = match (min, max) {
                    (Some(least), Some(most)) => format!("{least} to {most}"),
                    (Some(least), None) => format!("at least {least}"),
                    (None, most) => format!("at most {}", most.unwrap_or_default()),
                };
                let found = facts.ancestry.map(|ancestry| {
                    if ancestry.cut {
                        format!("at least {}, as far as a bounded walk came", ancestry.depth).into()
                    } else {
                        Value::from(ancestry.depth)
                    }
                });
                self.note(path, "lineageDepth".into(), wanted, expected, found.as_ref());
            }
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) | Condition::Facets(_) => {}
        }
    }

    fn note(&mut self, path: &str, fact: String, wanted: bool, expected: String, found: Option<&Value>) {
        if self.evidence.len() < EVIDENCE {
            let expected = if wanted { expected } else { format!("not {expected}") };
            self.evidence.push(Evidence { path: path.to_owned(), fact, expected, found: shown(found) });
        }
    }
}

fn one_of(values: impl ExactSizeIterator<Item = impl ToString>) -> String {
    let count = values.len();
    let mut named: Vec<_> = values.take(NAMED).map(|value| value.to_string()).collect();
    if count > NAMED {
        named.push(format!("and {} more", count - NAMED));
    }
    if let ([only], 1) = (named.as_slice(), count) { only.clone() } else { format!("one of {}", named.join(", ")) }
}

/// The value, or the beginning of a long text.
fn shown(found: Option<&Value>) -> Value {
    let Some(found) = found else { return Value::Null };
    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    if text.len() <= SHOWN {
        return found.clone();
    }
    let end = text.floor_char_boundary(SHOWN);
    format!("{}…", &text[..end]).into()
}
