//! Errors in a configuration, with everything needed to fix them: the key, the value, its origin, and what is allowed.

use std::{fmt, path::PathBuf};

use super::value_source::ValueSource;

/// All errors, so that one start shows them all.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError(pub(super) Vec<ConfigProblem>);

impl ConfigError {
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
    /// A variable that sets several keys.
    #[error("{name}: {why}")]
    Variable { name: String, why: String },
    #[error("{key} (from {origin}): there is no such key{}", did_you_mean(nearest.as_ref()))]
    UnknownKey { key: String, origin: ValueSource, nearest: Option<String> },
    /// The value is shown as TOML, and masked if it is a secret.
    #[error("{key} = {value} (from {origin}): {why}")]
    Value { key: String, value: String, origin: ValueSource, why: String },
}

impl ConfigProblem {
    /// The dotted key, unless the problem is with a file or a variable as a whole.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::File { .. } | Self::Variable { .. } => None,
            Self::UnknownKey { key, .. } | Self::Value { key, .. } => Some(key),
        }
    }
}

fn did_you_mean(nearest: Option<&String>) -> String {
    nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

/// The rules that a configuration breaks as a whole.
#[derive(Debug, Default)]
pub(super) struct Rules {
    broken: Vec<BrokenRule>,
}

/// A rule about several keys; the first one is named in the message.
#[derive(Debug)]
pub(super) struct BrokenRule {
    pub(super) keys: &'static [&'static str],
    pub(super) why: String,
}

impl Rules {
    /// Notes that these keys break a rule, unless it holds. `must` continues a sentence after "must".
    pub(super) fn require(&mut self, holds: bool, keys: &'static [&'static str], must: impl fmt::Display) {
        if !holds {
            self.broken.push(BrokenRule { keys, why: format!("must {must}") });
        }
    }

    /// For numbers that must be at least one.
    pub(super) fn at_least_one(&mut self, value: impl TryInto<u128>, key: &'static [&'static str]) {
        self.require(value.try_into().is_ok_and(|value| value > 0), key, "be at least 1");
    }

    /// For waiting times, where zero would mean never or always.
    pub(super) fn some_time(&mut self, value: std::time::Duration, key: &'static [&'static str]) {
        self.require(!value.is_zero(), key, "be longer than no time");
    }

    pub(super) fn broken(self) -> Vec<BrokenRule> {
        self.broken
    }
}
