//! A promise that a run has put to the test.

use serde::Serialize;

/// A promise.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) promise: String,
    pub(crate) kept: bool,
    /// What was seen.
    pub(crate) seen: String,
}

impl Check {
    pub(crate) fn new(promise: impl Into<String>, kept: bool, seen: impl Into<String>) -> Self {
        Self { promise: promise.into(), kept, seen: seen.into() }
    }
}

/// Whether a node ended as it should.
pub(crate) fn ended(stopped: &anyhow::Result<()>) -> Check {
    let seen = stopped.as_ref().map_or_else(|error| format!("{error:#}"), |()| "exit 0".to_owned());
    Check::new("each node drains and ends well when it is told to stop", stopped.is_ok(), seen)
}
