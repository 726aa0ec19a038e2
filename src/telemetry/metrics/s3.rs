//! Metrics of the S3 store: one count per attempt at a request.

use std::time::Instant;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// Metrics of the S3 store.
pub struct S3Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    retries: IntCounterVec,
    received: IntCounter,
    sent: IntCounter,
}

impl S3Metrics {
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("penstock_s3_requests_total", "Attempts at requests to S3, by operation and outcome."),
            &["operation", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "penstock_s3_request_seconds",
                "Time of an attempt at a request to S3, its body included.",
            )
            // A leaf of 1 MiB takes about 30 ms from a nearby S3; attempts are cut off at the last bucket.
            .buckets(vec![0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0]),
            &["operation"],
        )?;
        let retries = IntCounterVec::new(
            Opts::new("penstock_s3_retries_total", "Requests to S3 that were repeated after a failure, by operation."),
            &["operation"],
        )?;
        let bytes = IntCounterVec::new(
            Opts::new("penstock_s3_bytes_total", "Bytes of objects, by whether S3 sent or received them."),
            &["direction"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(retries.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        let (received, sent) = (bytes.with_label_values(&["read"]), bytes.with_label_values(&["written"]));
        Ok(Self { requests, seconds, retries, received, sent })
    }

    /// Counts an attempt that began at `began`.
    pub(crate) fn request_finished(&self, operation: &'static str, outcome: &'static str, began: Instant) {
        self.requests.with_label_values(&[operation, outcome]).inc();
        self.seconds.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
    }

    pub(crate) fn retried(&self, operation: &'static str) {
        self.retries.with_label_values(&[operation]).inc();
    }

    /// Counts bytes received of objects, including those of reads that broke.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Counts bytes of objects that S3 has accepted.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }
}
