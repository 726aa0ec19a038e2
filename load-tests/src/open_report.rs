//! What a load whose requests come at times of their own came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{latency::Percentiles, statistics::Interval};

/// A step of a ramp.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    pub(crate) due_per_second: f64,
    pub(crate) served_per_second: f64,
    pub(crate) mib_per_second: f64,
    pub(crate) first_byte_p99_ms: f64,
    pub(crate) refused: u64,
    /// Whether the node did all that it was asked for.
    pub(crate) holds: bool,
}

/// What an open load came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenReport {
    pub(crate) warm_up: bool,
    /// After the beginning of the run.
    pub(crate) began_seconds: f64,
    pub(crate) due: u64,
    /// Due while too many were open.
    pub(crate) unsent: u64,
    pub(crate) refused: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    /// Requests that failed where that was expected, by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failures: BTreeMap<String, u64>,
    /// How late the generator itself was. It is part of the latencies.
    pub(crate) lag_ms: Percentiles,
    pub(crate) operations: BTreeMap<&'static str, OperationReport>,
    /// Means with their 95 % intervals, from the means of batches.
    pub(crate) intervals: BTreeMap<&'static str, Interval>,
    pub(crate) series: Vec<Point>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) knee_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OperationReport {
    pub(crate) requests: u64,
    pub(crate) first_byte_ms: Percentiles,
    pub(crate) last_byte_ms: Percentiles,
}

/// A slice of time, for the plots. Times are seconds after the beginning of the run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    pub(crate) at: f64,
    pub(crate) due_per_second: f64,
    pub(crate) done_per_second: f64,
    pub(crate) mib_per_second: f64,
    pub(crate) refused_per_second: f64,
    pub(crate) failed_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_byte_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_byte_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_byte_p99_ms: Option<f64>,
}
