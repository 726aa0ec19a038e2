//! Governance from the configuration.

use std::sync::Arc;

use penstock_actors::policy_evaluator::{KnownProvenance, PolicyEvaluator, PolicyEvaluatorDeps};

use super::Backends;
use crate::{config::Config, telemetry::metrics::GovernanceMetrics};

/// The evaluator of policies, which reports to `metrics`.
pub fn evaluator(config: &Config, backends: &Backends, metrics: GovernanceMetrics) -> PolicyEvaluator {
    let deps = PolicyEvaluatorDeps {
        policies: Arc::clone(&backends.policies),
        provenance: Arc::new(KnownProvenance {
            lineage: Arc::clone(&backends.lineage.store),
            namespace: config.lineage.namespace.clone(),
        }),
        clock: Arc::clone(&backends.ports.clock),
        observer: Arc::new(move |occasion, decision| metrics.judged(occasion, decision)),
    };
    PolicyEvaluator::new(deps, config.governance.policy.clone())
}
