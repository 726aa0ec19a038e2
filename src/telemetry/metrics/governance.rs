//! What policies come to.

use penstock_actors::{governance::Decision, ports::Occasion};
use prometheus::{IntCounterVec, Opts, Registry};

/// Judgements, by what they were for.
#[derive(Clone)]
pub struct GovernanceMetrics {
    decisions: IntCounterVec,
}

impl GovernanceMetrics {
    /// # Errors
    /// When the registry has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let decisions = IntCounterVec::new(
            Opts::new(
                "penstock_policy_decisions_total",
                "Assets judged by a policy, by what they were judged for and what came of it.",
            ),
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
