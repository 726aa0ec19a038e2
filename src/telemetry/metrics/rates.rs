//! Metrics of rate limits.

use penstock_actors::rate_limit::{CountedBy, RateDecision};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::route_class::RouteClass;

/// Checks and refusals. The counters of all labels are looked up once, because every request passes here.
pub struct RateMetrics {
    /// By the number of the class.
    limited: [IntCounter; RouteClass::ALL.len()],
    local: Outcomes,
    shared: Outcomes,
    alone: Outcomes,
    /// Subjects in memory; its owner sets it before a scrape.
    pub subjects: IntGauge,
}

struct Outcomes {
    allowed: IntCounter,
    refused: IntCounter,
}

impl RateMetrics {
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let limited = IntCounterVec::new(
            Opts::new(
                "penstock_rate_limited_total",
                "Requests refused because their client made too many, by route class.",
            ),
            &["class"],
        )?;
        let checks = IntCounterVec::new(
            Opts::new(
                "penstock_rate_limit_checks_total",
                "Requests counted against a limit, by place (alone: in this instance, because Redis does not answer) and outcome.",
            ),
            &["backend", "outcome"],
        )?;
        let subjects = IntGauge::new(
            "penstock_rate_limit_subjects",
            "Clients, by route class and minute, that this instance remembers.",
        )?;
        registry.register(Box::new(limited.clone()))?;
        registry.register(Box::new(checks.clone()))?;
        registry.register(Box::new(subjects.clone()))?;
        let outcomes = |backend| Outcomes {
            allowed: checks.with_label_values(&[backend, "allowed"]),
            refused: checks.with_label_values(&[backend, "refused"]),
        };
        Ok(Self {
            limited: RouteClass::ALL.map(|class| limited.with_label_values(&[class.as_str()])),
            local: outcomes("memory"),
            shared: outcomes("redis"),
            alone: outcomes("alone"),
            subjects,
        })
    }

    pub fn checked(&self, class: RouteClass, verdict: &RateDecision) {
        let outcomes = match verdict.counted {
            CountedBy::Here => &self.local,
            CountedBy::Shared => &self.shared,
            CountedBy::Alone => &self.alone,
        };
        if verdict.allowed {
            outcomes.allowed.inc();
        } else {
            outcomes.refused.inc();
            self.limited[class as usize].inc();
        }
    }
}
