//! Requests for content, by delivery and outcome.

use prometheus::{IntCounterVec, Opts, Registry};

/// The server that delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The node.
    Stream,
    /// The object storage.
    Presigned,
    /// A CDN.
    Direct,
    /// The nginx in front.
    Accel,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Stream, Self::Presigned, Self::Direct, Self::Accel];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Presigned => "presigned",
            Self::Direct => "direct",
            Self::Accel => "accel",
        }
    }
}

/// The outcome of a request for content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// A body has begun, or a URL was given.
    Served,
    /// The receipt, its quota or the request did not permit it.
    Refused,
    /// The node, its storage or its database failed.
    Failed,
}

impl AnswerOutcome {
    const ALL: [Self; 3] = [Self::Served, Self::Refused, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "given",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Deliveries, by mode and outcome.
pub struct DeliveryMetrics {
    deliveries: IntCounterVec,
}

impl DeliveryMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let deliveries = IntCounterVec::new(
            Opts::new(
                "penstock_deliveries_total",
                "Requests for content, by delivery mode and outcome. HEAD and 304 are not counted.",
            ),
            &["mode", "outcome"],
        )?;
        registry.register(Box::new(deliveries.clone()))?;
        // All series exist from the start, so that the first event of a kind shows as an increase.
        for mode in Mode::ALL {
            for outcome in AnswerOutcome::ALL {
                deliveries.with_label_values(&[mode.as_str(), outcome.as_str()]);
            }
        }
        Ok(Self { deliveries })
    }

    pub fn asked(&self, mode: Mode, outcome: AnswerOutcome) {
        self.deliveries.with_label_values(&[mode.as_str(), outcome.as_str()]).inc();
    }
}
