//! The means to check signed requests.

use std::sync::Arc;

use penstock_actors::ports::UseTerms;

use super::World;
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
pub fn signed_requests(config: &Config, world: &World, metrics: &Metrics) -> Result<SignedRequests, prometheus::Error> {
    let settings = &config.signatures;
    Ok(SignedRequests {
        audiences: settings.audiences().map(Audience::of).collect(),
        terms: UseTerms { window: settings.window, ahead: settings.ahead, uses: settings.remembered },
        identities: Arc::clone(&world.identities),
        shared: Arc::clone(&world.ports.shared),
        clock: Arc::clone(&world.ports.clock),
        metrics: SignatureMetrics::new(metrics.registry())?,
    })
}
