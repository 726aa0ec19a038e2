//! What a policy came to.

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

/// What a condition looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The condition in the document, as in `rules[0].require.any[1].licence`.
    pub path: String,
    /// What it looked at, as in `policyMeta.license`.
    pub fact: String,
    pub expected: String,
    /// Null when there is nothing; long values are cut.
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

/// What a policy came to for an asset. Each of its rules stands in one of the lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The gravest of the reasons; allow when there is none.
    pub decision: Decision,
    pub reasons: Vec<Reason>,
    /// Rules that the asset keeps.
    pub passed: Vec<String>,
    /// Rules that are not about this asset.
    pub not_applicable: Vec<String>,
}
