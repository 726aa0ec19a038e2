//! Governance out of the configuration.

use std::sync::Arc;

use penstock_actors::governor::{Governor, GovernorDeps, LineageProvenance};

use super::World;
use crate::{config::Config, telemetry::metrics::GovernanceMetrics};

/// What judges by policies, and tells `metrics` of it.
pub fn governor(config: &Config, world: &World, metrics: GovernanceMetrics) -> Governor {
    let deps = GovernorDeps {
        policies: Arc::clone(&world.policies),
        provenance: Arc::new(LineageProvenance::new(
            Arc::clone(&world.lineage.store),
            config.lineage.namespace.as_str(),
        )),
        clock: Arc::clone(&world.ports.clock),
        observer: Arc::new(move |occasion, decision| metrics.judged(occasion, decision)),
    };
    Governor::new(deps, config.governance.policy.clone())
}
