//! Spans of requests.

use penstock_actors::node::Node;
use tokio::runtime::Handle;

use crate::{config::Config, telemetry::Spans};

/// Sends spans to the collector that the configuration names, if any.
///
/// # Errors
/// When the client for the collector cannot be set up.
#[cfg(feature = "otlp")]
pub fn spans(config: &Config, node: &Node, io: &Handle) -> anyhow::Result<Spans> {
    use std::sync::Arc;

    use crate::telemetry::otlp::OtlpSpans;

    let settings = &config.tracing;
    if settings.otlp_endpoint.is_empty() {
        return Ok(Spans::default());
    }
    let sink = OtlpSpans::open(&settings.otlp_endpoint, node.id().to_string(), io.clone())?;
    Ok(Spans::to(Arc::new(sink), settings.sample))
}

/// None: this binary has no exporter, so the configuration names no collector.
///
/// # Errors
/// None.
#[cfg(not(feature = "otlp"))]
pub fn spans(_: &Config, _: &Node, _: &Handle) -> anyhow::Result<Spans> {
    Ok(Spans::default())
}
