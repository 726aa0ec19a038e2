//! The outcome of a policy for an asset.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The outcome, from the mildest to the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Warn,
    Block,
}

impl Decision {
    pub const ALL: [Self; 3] = [Self::Allow, Self::Warn, Self::Block];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Block => "block",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|decision| decision.as_str() == text)
    }
}

/// The evidence for a reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The path of the condition in the document, as in `rules[0].require.any[1].licence`.
    pub path: String,
    /// The path of the fact that it tested, as in `policyMeta.license`.
    pub fact: String,
    pub expected: String,
    /// Null when the value is absent; long values are cut.
    pub found: Value,
}

/// A rule that the asset breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    pub rule: String,
    /// Warn or block.
    pub decision: Decision,
    pub reason: String,
    pub evidence: Vec<Evidence>,
}

/// The outcome of a policy for an asset. Each of its rules is in exactly one of the lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The gravest of the reasons; allow when there is none.
    pub decision: Decision,
    pub reasons: Vec<Reason>,
    /// Rules that the asset meets.
    pub passed: Vec<String>,
    /// Rules that do not apply to this asset.
    pub not_applicable: Vec<String>,
}
