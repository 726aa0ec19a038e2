//! What signed requests are judged by.

use std::sync::Arc;

use penstock_actors::ports::UseTerms;

use super::World;
use crate::{
    config::Config,
    http::SignedRequests,
    signatures::Audience,
    telemetry::{Metrics, metrics::SignatureMetrics},
};

/// As the configuration says.
///
/// # Errors
/// When signed requests are counted already.
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
