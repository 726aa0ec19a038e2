//! Metrics of the HTTP interface. Labels are route templates and classes, never texts from a client.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::route_class::RouteClass;

/// Requests, by route and outcome.
pub struct HttpMetrics {
    requests: IntCounterVec,
    in_flight: IntGauge,
    /// In the order of the classes' numbers.
    classes: [ClassMetrics; RouteClass::ALL.len()],
}

/// The metrics of a route class, which are found without a look-up by name.
struct ClassMetrics {
    seconds: Histogram,
    first_byte: Histogram,
    bytes: IntCounter,
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
        let times = |name: &str, help: &str| -> Result<HistogramVec, prometheus::Error> {
            // A warm answer takes well under a millisecond, a query a few; 0.2 is the target of the 95th percentile; the ends
            // distinguish a queue from a dead dependency.
            let buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 1.0, 5.0, 10.0];
            let times = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["class"])?;
            registry.register(Box::new(times.clone()))?;
            Ok(times)
        };
        let seconds = times(
            "penstock_http_response_seconds",
            "Time from the head of a request to the head of its answer, by route class; bodies are not included.",
        )?;
        let first_byte = times(
            "penstock_http_first_byte_seconds",
            "Time from the head of a request until its connection took the first bytes of the answer's body, by route class.",
        )?;
        let bytes = IntCounterVec::new(
            Opts::new("penstock_http_response_bytes_total", "Bytes of answers handed to connections, by route class."),
            &["class"],
        )?;
        let in_flight = IntGauge::new("penstock_http_requests_in_flight", "Requests whose answer has not ended yet.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        let classes = RouteClass::ALL.map(|class| {
            let class = [class.as_str()];
            ClassMetrics {
                seconds: seconds.with_label_values(&class),
                first_byte: first_byte.with_label_values(&class),
                bytes: bytes.with_label_values(&class),
            }
        });
        Ok(Self { requests, in_flight, classes })
    }

    pub fn request_began(&self) {
        self.in_flight.inc();
    }

    /// The head of an answer is ready, `after` the head of its request arrived.
    pub fn answer_began(&self, class: RouteClass, after: Duration) {
        self.of(class).seconds.observe(after.as_secs_f64());
    }

    /// The connection took the first bytes of the body of an answer, `after` the head of the request arrived.
    pub fn first_bytes(&self, class: RouteClass, after: Duration) {
        self.of(class).first_byte.observe(after.as_secs_f64());
    }

    /// A request that [began](Self::request_began) ended, in any way.
    pub fn request_ended(&self, ended: &EndedRequest<'_>) {
        self.requests.with_label_values(&[ended.route, ended.method, ended.status, ended.outcome]).inc();
        self.of(ended.class).bytes.inc_by(ended.bytes);
        self.in_flight.dec();
    }

    fn of(&self, class: RouteClass) -> &ClassMetrics {
        &self.classes[class as usize]
    }
}

/// How a request ended.
pub struct EndedRequest<'a> {
    /// The route template.
    pub route: &'a str,
    pub class: RouteClass,
    pub method: &'static str,
    /// Such as `2xx`.
    pub status: &'static str,
    pub outcome: &'static str,
    pub bytes: u64,
}
