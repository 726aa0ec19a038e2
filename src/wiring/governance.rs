//! Governance from the configuration.

use std::sync::Arc;

use penstock_actors::policy_evaluator::{Governor, GovernorDeps, KnownProvenance};

use super::World;
use crate::{config::Config, telemetry::metrics::GovernanceMetrics};

/// The evaluator of policies, which reports to `metrics`.
pub fn governor(config: &Config, world: &World, metrics: GovernanceMetrics) -> Governor {
    let deps = GovernorDeps {
        policies: Arc::clone(&world.policies),
        provenance: Arc::new(KnownProvenance {
            lineage: Arc::clone(&world.lineage.store),
            namespace: config.lineage.namespace.clone(),
        }),
        clock: Arc::clone(&world.ports.clock),
        observer: Arc::new(move |occasion, decision| metrics.judged(occasion, decision)),
    };
    Governor::new(deps, config.governance.policy.clone())
}
