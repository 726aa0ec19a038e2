//! Logs and metrics. The first lines of [`metrics`] say where a new metric belongs.

pub mod logs;
pub mod metrics;

pub use logs::LogFormat;
pub use metrics::{DbMetrics, Metrics, S3Metrics};
