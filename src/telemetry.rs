//! Logs, metrics and traces. The first lines of [`metrics`] say where a new metric belongs.

pub mod logs;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod spans;
pub mod trace;

pub use logs::LogFormat;
pub use metrics::{DbMetrics, Metrics, S3Metrics};
pub use spans::Spans;
pub use trace::TraceContext;
