//! Evaluations of governance policies.

use penstock_actors::{governance::Decision, ports::Occasion};
use prometheus::{IntCounterVec, Opts, Registry};

/// Evaluations, by their occasion.
#[derive(Clone)]
pub struct GovernanceMetrics {
    decisions: IntCounterVec,
}

impl GovernanceMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let decisions = IntCounterVec::new(
            Opts::new("penstock_policy_decisions_total", "Assets evaluated by a policy, by occasion and decision."),
            &["occasion", "decision"],
        )?;
        registry.register(Box::new(decisions.clone()))?;
        for occasion in Occasion::ALL {
            for decision in Decision::ALL {
                decisions.with_label_values(&[occasion.as_str(), decision.as_str()]);
            }
        }
        Ok(Self { decisions })
    }

    pub fn judged(&self, occasion: Occasion, decision: Decision) {
        self.decisions.with_label_values(&[occasion.as_str(), decision.as_str()]).inc();
    }
}
