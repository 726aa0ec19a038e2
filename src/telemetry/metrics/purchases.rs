//! Purchases on chain.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

/// The outcome of a request to buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurchaseOutcome {
    /// It had no payment, and was told the price.
    Offered,
    Bought,
    /// The payer asked again and got the same receipt.
    ShownAgain,
    /// The payment is not enough, or proves nothing.
    Unpaid,
    /// It is not for sale, or the request cannot be read.
    Refused,
    /// The node, or something that it depends on, failed.
    Failed,
}

impl PurchaseOutcome {
    pub const ALL: [Self; 6] =
        [Self::Offered, Self::Bought, Self::ShownAgain, Self::Unpaid, Self::Refused, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Bought => "bought",
            Self::ShownAgain => "shown_again",
            Self::Unpaid => "unpaid",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Purchases by outcome, and the verification of payments.
#[derive(Clone)]
pub struct PaymentMetrics {
    purchases: IntCounterVec,
    valid: Histogram,
    invalid: Histogram,
    /// Payments that are being verified.
    pub verifying: IntGauge,
}

impl PaymentMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let purchases = IntCounterVec::new(
            Opts::new("penstock_purchases_total", "Requests to buy a receipt on chain, by outcome."),
            &["outcome"],
        )?;
        let verifications = HistogramVec::new(
            HistogramOpts::new("penstock_payment_verification_seconds", "Time to verify the envelope of a payment.")
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5]),
            &["verdict"],
        )?;
        let verifying = IntGauge::new("penstock_payments_verifying", "Payments that are being verified.")?;
        registry.register(Box::new(purchases.clone()))?;
        registry.register(Box::new(verifications.clone()))?;
        registry.register(Box::new(verifying.clone()))?;
        for outcome in PurchaseOutcome::ALL {
            purchases.with_label_values(&[outcome.as_str()]);
        }
        let of = |verdict| verifications.with_label_values(&[verdict]);
        Ok(Self { purchases, valid: of("valid"), invalid: of("invalid"), verifying })
    }

    pub fn purchase(&self, outcome: PurchaseOutcome) {
        self.purchases.with_label_values(&[outcome.as_str()]).inc();
    }

    pub fn verified(&self, took: Duration, is_valid: bool) {
        let histogram = if is_valid { &self.valid } else { &self.invalid };
        histogram.observe(took.as_secs_f64());
    }
}
