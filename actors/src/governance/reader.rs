//! Reads a document into rules, with the path of each flaw.

use serde_json::{Map, Value};

use super::{
    CONDITIONS, DEPTH, Decision, FLAWS, LINEAGE_DEPTH, RULES, Rule, TEXT_BYTES, VALUES,
    condition::{Condition, FacetPath},
};
use crate::{ids::is_plain_name, model::json_path::push_member};

/// Bytes of the texts meant for people.
const DESCRIPTION_BYTES: usize = 2000;
const REASON_BYTES: usize = 500;

/// A hundred years.
const MAX_DAYS: u32 = 36_500;

/// The conditions, as a flaw lists them.
const KEYWORDS: &str = "all, any, not, facets, facet, licence, classification, producer, mediaType, maxSizeBytes, maxAgeDays \
                        or lineageDepth";

/// A violation of the language in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// As in `rules[0].require.licence[2]`; empty for the document as a whole.
    pub path: String,
    pub detail: String,
}

/// Reads a document and collects its flaws. Flawed parts are left out of the result.
#[derive(Default)]
pub(super) struct Reader {
    flaws: Vec<Flaw>,
    conditions: usize,
}

impl Reader {
    pub(super) fn into_flaws(self) -> Vec<Flaw> {
        self.flaws
    }

    fn flaw(&mut self, path: &str, detail: impl Into<String>) {
        if self.flaws.len() < FLAWS {
            self.flaws.push(Flaw { path: path.to_owned(), detail: detail.into() });
        }
    }

    pub(super) fn document(&mut self, document: &Value) -> Vec<Rule> {
        let Some(members) = self.object("", document) else { return Vec::new() };
        self.known(members, "", &["description", "rules"]);
        if let Some(description) = members.get("description") {
            self.text("description", description, DESCRIPTION_BYTES, true);
        }
        let Some(rules) = members.get("rules") else {
            self.flaw("rules", "is missing");
            return Vec::new();
        };
        let rules = self.list("rules", rules, 0, RULES);
        let mut read: Vec<Rule> = Vec::with_capacity(rules.len());
        for (number, rule) in rules.iter().enumerate() {
            let path = format!("rules[{number}]");
            let Some(rule) = self.rule(rule, &path) else { continue };
            if read.iter().any(|other| other.id == rule.id) {
                self.flaw(&format!("{path}.id"), "must be of this rule alone");
            }
            read.push(rule);
        }
        read
    }

    fn rule(&mut self, rule: &Value, path: &str) -> Option<Rule> {
        let members = self.object(path, rule)?;
        self.known(members, path, &["id", "when", "require", "otherwise", "reason"]);
        let id = match members.get("id").map(Value::as_str) {
            Some(Some(id)) if is_plain_name(id) => Some(id.to_owned()),
            _ => {
                self.flaw(&format!("{path}.id"), "must have 1 to 64 characters out of a-z, 0-9 and -");
                None
            }
        };
        let when = members.get("when").map(|when| self.condition(when, &format!("{path}.when"), 1));
        let require = match members.get("require") {
            Some(require) => self.condition(require, &format!("{path}.require"), 1),
            None => {
                self.flaw(&format!("{path}.require"), "is missing");
                None
            }
        };
        let otherwise = match members.get("otherwise") {
            None => Some(Decision::Block),
            Some(given) => {
                let decision = given.as_str().and_then(Decision::parse).filter(|given| *given != Decision::Allow);
                if decision.is_none() {
                    self.flaw(&format!("{path}.otherwise"), "must be warn or block");
                }
                decision
            }
        };
        let reason =
            members.get("reason").map(|reason| self.text(&format!("{path}.reason"), reason, REASON_BYTES, false));
        Some(Rule {
            id: id?,
            when: match when {
                Some(when) => Some(when?),
                None => None,
            },
            require: require?,
            otherwise: otherwise?,
            reason: reason.flatten(),
        })
    }

    fn condition(&mut self, value: &Value, path: &str, depth: usize) -> Option<Condition> {
        self.conditions += 1;
        if self.conditions > CONDITIONS {
            // Reported once, at the first condition beyond the limit.
            if self.conditions == CONDITIONS + 1 {
                self.flaw(path, format!("is one too many: a policy has at most {CONDITIONS} conditions"));
            }
            return None;
        }
        if depth > DEPTH {
            self.flaw(path, format!("is nested too deep: conditions go at most {DEPTH} deep"));
            return None;
        }
        let members = self.object(path, value)?;
        let (Some((keyword, value)), 1) = (members.iter().next(), members.len()) else {
            self.flaw(path, format!("must have one member: {KEYWORDS}"));
            return None;
        };
        let at = format!("{path}.{keyword}");
        match keyword.as_str() {
            "all" => self.conditions_of(value, &at, depth).map(Condition::All),
            "any" => self.conditions_of(value, &at, depth).map(Condition::Any),
            "not" => self.condition(value, &at, depth + 1).map(|part| Condition::Not(part.into())),
            "facets" => self.each(value, &at, Self::facet_path).map(Condition::Facets),
            "facet" => self.facet(value, &at),
            "licence" | "license" => self.each(value, &at, Self::term).map(Condition::Licence),
            "classification" => self.each(value, &at, Self::term).map(Condition::Classification),
            "producer" => self.each(value, &at, Self::producer).map(Condition::Producer),
            "mediaType" => self.each(value, &at, Self::media_range).map(Condition::MediaType),
            "maxSizeBytes" => self.number(value, &at, 0, 1 << 60).map(Condition::MaxSizeBytes),
            "maxAgeDays" => self.small(value, &at, 1, MAX_DAYS).map(Condition::MaxAgeDays),
            "lineageDepth" => self.lineage_depth(value, &at),
            unknown => {
                let mut at = path.to_owned();
                push_member(&mut at, unknown.get(..unknown.floor_char_boundary(TEXT_BYTES)).unwrap_or_default());
                self.flaw(&at, format!("is no condition; there are {KEYWORDS}"));
                None
            }
        }
    }

    fn conditions_of(&mut self, value: &Value, path: &str, depth: usize) -> Option<Vec<Condition>> {
        let parts = self.list(path, value, 1, VALUES);
        let read: Vec<_> = parts
            .iter()
            .enumerate()
            .filter_map(|(number, part)| self.condition(part, &format!("{path}[{number}]"), depth + 1))
            .collect();
        (!read.is_empty() && read.len() == parts.len()).then_some(read)
    }

    fn facet(&mut self, value: &Value, path: &str) -> Option<Condition> {
        let members = self.object(path, value)?;
        self.known(members, path, &["path", "in"]);
        let facet = self.facet_path(members.get("path").unwrap_or(&Value::Null), &format!("{path}.path"));
        let values = self.each(members.get("in").unwrap_or(&Value::Null), &format!("{path}.in"), Self::scalar);
        Some(Condition::Facet { path: facet?, values: values? })
    }

    fn lineage_depth(&mut self, value: &Value, path: &str) -> Option<Condition> {
        let members = self.object(path, value)?;
        self.known(members, path, &["min", "max"]);
        let min = members.get("min").map(|min| self.small(min, &format!("{path}.min"), 1, LINEAGE_DEPTH));
        let max = members.get("max").map(|max| self.small(max, &format!("{path}.max"), 0, LINEAGE_DEPTH - 1));
        let (min, max) = match (min, max) {
            (None, None) => {
                self.flaw(path, "must have min, max or both");
                return None;
            }
            (min, max) => (min.map_or(Some(None), |min| min.map(Some))?, max.map_or(Some(None), |max| max.map(Some))?),
        };
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            self.flaw(path, "must not have a min above its max");
            return None;
        }
        Some(Condition::LineageDepth { min, max })
    }

    /// The values of a list that is not empty; `None` when one of them is flawed.
    fn each<T>(
        &mut self,
        value: &Value,
        path: &str,
        read: impl Fn(&mut Self, &Value, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let values = self.list(path, value, 1, VALUES);
        let read: Vec<_> = values
            .iter()
            .enumerate()
            .filter_map(|(number, value)| read(self, value, &format!("{path}[{number}]")))
            .collect();
        (!read.is_empty() && read.len() == values.len()).then_some(read)
    }

    fn facet_path(&mut self, value: &Value, path: &str) -> Option<FacetPath> {
        let text = self.text(path, value, TEXT_BYTES, false)?;
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if text.starts_with('/') && !escapes {
            self.flaw(path, "must be a member of policyMeta, or a JSON Pointer such as /retention/days");
            return None;
        }
        Some(FacetPath(text))
    }

    fn term(&mut self, value: &Value, path: &str) -> Option<String> {
        self.text(path, value, TEXT_BYTES, false)
    }

    fn producer(&mut self, value: &Value, path: &str) -> Option<crate::ids::ProducerId> {
        let id = value.as_str().and_then(|id| id.parse().ok());
        if id.is_none() {
            self.flaw(path, "must be the id of a producer");
        }
        id
    }

    fn media_range(&mut self, value: &Value, path: &str) -> Option<String> {
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
        };
        let range = value.as_str().filter(|range| range.len() <= TEXT_BYTES);
        let range = range.filter(|range| {
            range.split_once('/').is_some_and(|(family, kind)| token(family) && (kind == "*" || token(kind)))
        });
        if range.is_none() {
            self.flaw(path, "must be a media type or a family, such as video/*");
        }
        range.map(str::to_owned)
    }

    fn scalar(&mut self, value: &Value, path: &str) -> Option<Value> {
        match value {
            Value::Bool(_) | Value::Number(_) => Some(value.clone()),
            _ => self.text(path, value, TEXT_BYTES, false).map(Value::String),
        }
    }

    fn number(&mut self, value: &Value, path: &str, least: u64, most: u64) -> Option<u64> {
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.flaw(path, format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    fn small(&mut self, value: &Value, path: &str, least: u32, most: u32) -> Option<u32> {
        self.number(value, path, least.into(), most.into()).and_then(|number| u32::try_from(number).ok())
    }

    /// A text without control characters; several lines only where `lines` allows it.
    fn text(&mut self, path: &str, value: &Value, most: usize, lines: bool) -> Option<String> {
        let text = value.as_str().filter(|text| (1..=most).contains(&text.len()));
        let text = text.filter(|text| !text.chars().any(|c| c.is_control() && !(lines && c == '\n')));
        if text.is_none() {
            self.flaw(path, format!("must be a text of 1 to {most} bytes without control characters"));
        }
        text.map(str::to_owned)
    }

    fn object<'v>(&mut self, path: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let members = value.as_object();
        if members.is_none() {
            self.flaw(path, "must be an object");
        }
        members
    }

    /// The values of a list of the right length; none otherwise.
    fn list<'v>(&mut self, path: &str, value: &'v Value, least: usize, most: usize) -> &'v [Value] {
        match value.as_array() {
            Some(values) if (least..=most).contains(&values.len()) => values,
            Some(values) => {
                self.flaw(path, format!("must have {least} to {most} entries, and has {}", values.len()));
                &[]
            }
            None => {
                self.flaw(path, "must be a list");
                &[]
            }
        }
    }

    fn known(&mut self, members: &Map<String, Value>, path: &str, known: &[&str]) {
        for member in members.keys().filter(|member| !known.contains(&member.as_str())) {
            let mut at = path.to_owned();
            push_member(&mut at, &member[..member.floor_char_boundary(TEXT_BYTES)]);
            self.flaw(&at, format!("is not known here; there are {}", known.join(", ")));
        }
    }
}
