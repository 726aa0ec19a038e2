//! The means to check signed requests.

use std::sync::Arc;

use penstock_actors::ports::ReplayTerms;

use super::Backends;
use crate::{
    config::Config,
    http::SignedRequests,
    signatures::Audience,
    telemetry::{Metrics, metrics::SignatureMetrics},
};

/// From the configuration.
///
/// # Errors
/// When the metrics of signed requests are registered already.
pub(super) fn signed_requests(
    config: &Config,
    backends: &Backends,
    metrics: &Metrics,
) -> Result<SignedRequests, prometheus::Error> {
    let settings = &config.signatures;
    Ok(SignedRequests {
        audiences: settings.audiences().map(Audience::of).collect(),
        terms: ReplayTerms { window: settings.window, ahead: settings.ahead, uses: settings.remembered },
        identities: Arc::clone(&backends.identities),
        replays: backends.ports.shared.clone(),
        clock: Arc::clone(&backends.ports.clock),
        metrics: SignatureMetrics::new(metrics.registry())?,
    })
}
