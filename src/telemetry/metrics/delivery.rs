//! How content was asked for and whether it was given.

use prometheus::{IntCounterVec, Opts, Registry};

/// Who delivers.
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

/// What came of a wish for content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// A body has begun, or a URL was given.
    Given,
    /// The receipt, its quota or the request did not allow it.
    Refused,
    /// The node, its storage or its database could not.
    Failed,
}

impl Given {
    const ALL: [Self; 3] = [Self::Given, Self::Refused, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
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
    /// When the registry has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let deliveries = IntCounterVec::new(
            Opts::new(
                "penstock_deliveries_total",
                "Wishes for content, by who was to deliver and whether it was given. HEAD and 304 are none.",
            ),
            &["mode", "outcome"],
        )?;
        registry.register(Box::new(deliveries.clone()))?;
        // All series are there from the start, so that the first of a kind is seen as a rise.
        for mode in Mode::ALL {
            for outcome in Given::ALL {
                deliveries.with_label_values(&[mode.as_str(), outcome.as_str()]);
            }
        }
        Ok(Self { deliveries })
    }

    pub fn asked(&self, mode: Mode, outcome: Given) {
        self.deliveries.with_label_values(&[mode.as_str(), outcome.as_str()]).inc();
    }
}
