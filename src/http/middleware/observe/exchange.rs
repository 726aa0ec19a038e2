//! One request and its answer, from beginning to end.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Instant, SystemTime},
};

use actix_web::http::{Method, StatusCode};
use tracing::Span;

use super::ids::RequestId;
use crate::{
    http::ProblemType,
    route_class::{RouteClass, UNMATCHED},
    telemetry::{
        Spans, TraceContext,
        metrics::{EndedRequest, HttpMetrics},
        spans::RequestSpan,
    },
};

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExchangeOutcome {
    /// The whole answer was sent.
    Completed,
    /// The client left first: the outcome until another one is known.
    Aborted,
    /// The body failed on this side.
    Failed,
}

impl ExchangeOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// The trace of a request, and where its span goes.
struct Traced {
    spans: Spans,
    trace: TraceContext,
    request_id: String,
}

/// Counts and logs its request when it is dropped.
pub(super) struct Exchange {
    metrics: Arc<HttpMetrics>,
    pub(super) span: Span,
    began: Instant,
    method: &'static str,
    route: Cow<'static, str>,
    status: Option<StatusCode>,
    problem: Option<ProblemType>,
    traced: Option<Traced>,
    pub(super) bytes: u64,
    pub(super) outcome: ExchangeOutcome,
}

impl Exchange {
    pub(super) fn begin(metrics: Arc<HttpMetrics>, span: Span, method: &Method) -> Self {
        metrics.request_began();
        Self {
            metrics,
            span,
            began: Instant::now(),
            method: known_method(method),
            route: Cow::Borrowed(UNMATCHED),
            status: None,
            problem: None,
            traced: None,
            bytes: 0,
            outcome: ExchangeOutcome::Aborted,
        }
    }

    /// The request belongs to a trace.
    pub(super) fn traced(&mut self, spans: Spans, trace: Option<TraceContext>, id: &RequestId) {
        self.traced = trace.map(|trace| Traced { spans, trace, request_id: id.as_str().to_owned() });
    }

    /// The head of the answer is ready.
    pub(super) fn answered(&mut self, route: Option<String>, status: StatusCode, problem: Option<ProblemType>) {
        if let Some(template) = route {
            self.route = Cow::Owned(template);
        }
        self.status = Some(status);
        self.problem = problem;
        self.metrics.answer_began(RouteClass::of(&self.route).as_str(), self.began.elapsed());
    }

    fn send_span(&self, traced: Traced) {
        let Traced { spans, trace, request_id } = traced;
        spans.ended(trace, |trace| RequestSpan {
            trace,
            method: self.method,
            route: self.route.clone().into_owned(),
            status: self.status.map(|status| status.as_u16()),
            problem: self.problem.map(ProblemType::name),
            outcome: self.outcome.as_str(),
            bytes: self.bytes,
            request_id,
            ended: SystemTime::now(),
            duration: self.began.elapsed(),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let class = RouteClass::of(&self.route);
        self.metrics.request_ended(&EndedRequest {
            route: &self.route,
            class: class.as_str(),
            method: self.method,
            status: status_class(self.status),
            outcome: self.outcome.as_str(),
            bytes: self.bytes,
        });
        if let Some(traced) = self.traced.take() {
            self.send_span(traced);
        }
        // Every balancer probes and scrapes every few seconds: such a request is logged only at a low level.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "penstock::access",
                    parent: &self.span,
                    method = self.method,
                    route = %self.route,
                    status = self.status.map(|status| status.as_u16()),
                    problem = self.problem.map(ProblemType::name),
                    bytes = self.bytes,
                    duration_ms = self.began.elapsed().as_secs_f64() * 1e3,
                    outcome = self.outcome.as_str(),
                )
            };
        }
        if class == RouteClass::Operations { line!(debug) } else { line!(info) }
    }
}

/// A label from a closed set: clients may send any word as a method.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

fn status_class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(_) => "5xx",
        None => "none",
    }
}
