//! Metrics of the HTTP interface. Labels are route templates and classes, never texts from a client.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

/// Requests, by route and outcome.
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    bytes: IntCounterVec,
    in_flight: IntGauge,
}

impl HttpMetrics {
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "penstock_http_requests_total",
                "Requests that ended, by route, method, status class and outcome.",
            ),
            &["route", "method", "status", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "penstock_http_response_seconds",
                "Time from the head of a request to the head of its answer, by route class; bodies are not included.",
            )
            // A warm answer takes well under a millisecond, a query a few; 0.2 is the target of the 95th percentile; the ends
            // distinguish a queue from a dead dependency.
            .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 1.0, 5.0, 10.0]),
            &["class"],
        )?;
        let bytes = IntCounterVec::new(
            Opts::new("penstock_http_response_bytes_total", "Bytes of answers handed to connections, by route class."),
            &["class"],
        )?;
        let in_flight = IntGauge::new("penstock_http_requests_in_flight", "Requests whose answer has not ended yet.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, seconds, bytes, in_flight })
    }

    pub fn request_began(&self) {
        self.in_flight.inc();
    }

    /// The head of an answer is ready, `after` the head of its request arrived.
    pub fn answer_began(&self, class: &'static str, after: Duration) {
        self.seconds.with_label_values(&[class]).observe(after.as_secs_f64());
    }

    /// A request that [began](Self::request_began) ended, in any way.
    pub fn request_ended(&self, ended: &EndedRequest<'_>) {
        self.requests.with_label_values(&[ended.route, ended.method, ended.status, ended.outcome]).inc();
        self.bytes.with_label_values(&[ended.class]).inc_by(ended.bytes);
        self.in_flight.dec();
    }
}

/// How a request ended.
pub struct EndedRequest<'a> {
    /// The route template.
    pub route: &'a str,
    pub class: &'static str,
    pub method: &'static str,
    /// Such as `2xx`.
    pub status: &'static str,
    pub outcome: &'static str,
    pub bytes: u64,
}
