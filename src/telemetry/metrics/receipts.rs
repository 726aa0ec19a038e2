//! The receipts that clients name, by whether they are signed.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Receipts in requests without a key. Clients that send none, or text of another form, are not counted.
pub struct ReceiptMetrics {
    /// With a valid signature.
    pub signed: IntCounter,
    pub unsigned: IntCounter,
    pub forged: IntCounter,
}

impl ReceiptMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let receipts = IntCounterVec::new(
            Opts::new(
                "penstock_receipt_tokens_total",
                "Receipts named by clients without a key, by whether they are signed, unsigned (refused where a token is \
                 required) or forged. Only while receipts are signed.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(receipts.clone()))?;
        let of = |outcome| receipts.with_label_values(&[outcome]);
        Ok(Self { signed: of("signed"), unsigned: of("unsigned"), forged: of("forged") })
    }
}
