//! A fault that a run has made.

use std::fmt;

use serde::Serialize;

/// A fault that was made. Times are seconds after the beginning of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FaultReport {
    pub(crate) what: String,
    pub(crate) from: f64,
    /// When it served again.
    pub(crate) to: f64,
    /// Requests that were open when an instance was killed; 0 for other faults.
    pub(crate) open_when_killed: u64,
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.1} s to {:>7.1} s  {}", self.from, self.to, self.what)
    }
}
