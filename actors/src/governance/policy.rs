//! A policy: its rules, and judging with them.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::{
    DOCUMENT_BYTES, Decision, Facts, Flaw, Reason, Truth, Verdict, condition::Condition, explain::Explainer,
    reader::Reader,
};

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Names the rule in verdicts; unique within its policy.
    pub id: String,
    /// Which assets the rule applies to; `None`: all.
    pub when: Option<Condition>,
    pub require: Condition,
    /// The outcome for an asset that does not meet the requirement: warn or block.
    pub otherwise: Decision,
    /// The reason shown to people; `None`: a sentence that names the rule.
    pub reason: Option<String>,
}

/// A policy, with the document that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct GovernancePolicy {
    document: Value,
    rules: Vec<Rule>,
}

impl GovernancePolicy {
    /// Reads a document.
    ///
    /// # Errors
    /// All of its flaws, up to [`FLAWS`](super::FLAWS); a single one when it is too large to read.
    pub fn read(document: Value) -> Result<Self, Vec<Flaw>> {
        let bytes = document.to_string().len();
        if bytes > DOCUMENT_BYTES {
            let detail = format!("must have at most {DOCUMENT_BYTES} bytes as JSON, and has {bytes}");
            return Err(vec![Flaw { path: String::new(), detail }]);
        }
        let mut reader = Reader::default();
        let rules = reader.document(&document);
        let flaws = reader.into_flaws();
        if flaws.is_empty() { Ok(Self { document, rules }) } else { Err(flaws) }
    }

    /// The document as it was written.
    pub const fn document(&self) -> &Value {
        &self.document
    }

    pub fn description(&self) -> Option<&str> {
        self.document.get("description").and_then(Value::as_str)
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How far lineage must be followed to judge with this policy; `None` when no rule asks for it.
    pub fn lineage_depth(&self) -> Option<u32> {
        self.conditions().filter_map(Condition::lineage_depth).max()
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.rules.iter().flat_map(|rule| rule.when.iter().chain([&rule.require]))
    }

    /// Judges an asset as of `now`.
    pub fn judge(&self, facts: &Facts<'_>, now: Timestamp) -> Verdict {
        let mut verdict =
            Verdict { decision: Decision::Allow, reasons: Vec::new(), passed: Vec::new(), not_applicable: Vec::new() };
        for (number, rule) in self.rules.iter().enumerate() {
            let applies = rule.when.as_ref().map_or(Truth::Yes, |when| when.truth(facts, now));
            if applies == Truth::No {
                verdict.not_applicable.push(rule.id.clone());
                continue;
            }
            if rule.require.truth(facts, now) == Truth::Yes {
                verdict.passed.push(rule.id.clone());
                continue;
            }
            let mut explainer = Explainer::new(facts, now);
            if let Some(when) = rule.when.as_ref().filter(|_| applies == Truth::Unknown) {
                explainer.explain(when, &mut format!("rules[{number}].when"), true);
            }
            explainer.explain(&rule.require, &mut format!("rules[{number}].require"), true);
            verdict.decision = verdict.decision.max(rule.otherwise);
            verdict.reasons.push(Reason {
                rule: rule.id.clone(),
                decision: rule.otherwise,
                reason: rule.reason.clone().unwrap_or_else(|| format!("the rule {} is not kept", rule.id)),
                evidence: explainer.into_evidence(),
            });
        }
        verdict
    }
}

impl Serialize for GovernancePolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for GovernancePolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(|flaws| {
            let told: Vec<_> = flaws.iter().map(|flaw| format!("{}: {}", flaw.path, flaw.detail)).collect();
            D::Error::custom(told.join("; "))
        })
    }
}
