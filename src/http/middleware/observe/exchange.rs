//! One request and its answer, from beginning to end.

use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use actix_web::http::{Method, StatusCode};

use super::PresentRequest;
use crate::{
    http::ProblemType,
    route_class::{RouteClass, UNMATCHED},
    telemetry::{
        Spans, TraceContext,
        logs::access::{self, AccessIds, AccessLevel, AccessLine},
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

/// Characters of a receipt's id that a log may show: enough to find its lines, and 90 random bits stay unknown.
const SHOWN_OF_RECEIPT: usize = 8;

/// Counts and logs its request when it is dropped.
pub(super) struct Exchange {
    metrics: Arc<HttpMetrics>,
    spans: Spans,
    pub(super) request: Rc<PresentRequest>,
    began: Instant,
    method: &'static str,
    route: Cow<'static, str>,
    class: RouteClass,
    status: Option<StatusCode>,
    problem: Option<ProblemType>,
    bytes: u64,
    pub(super) outcome: ExchangeOutcome,
}

impl Exchange {
    pub(super) fn begin(metrics: Arc<HttpMetrics>, spans: Spans, request: Rc<PresentRequest>, method: &Method) -> Self {
        metrics.request_began();
        Self {
            metrics,
            spans,
            request,
            began: Instant::now(),
            method: known_method(method),
            route: Cow::Borrowed(UNMATCHED),
            class: RouteClass::Unmatched,
            status: None,
            problem: None,
            bytes: 0,
            outcome: ExchangeOutcome::Aborted,
        }
    }

    /// The head of the answer is ready.
    pub(super) fn answered(&mut self, route: Option<String>, status: StatusCode, problem: Option<ProblemType>) {
        if let Some(template) = route {
            self.class = RouteClass::of(&template);
            self.route = Cow::Owned(template);
        }
        self.status = Some(status);
        self.problem = problem;
        self.metrics.answer_began(self.class, self.began.elapsed());
    }

    /// The connection took bytes of the answer's body.
    pub(super) fn sent(&mut self, bytes: u64) {
        if self.bytes == 0 && bytes > 0 {
            self.metrics.first_bytes(self.class, self.began.elapsed());
        }
        self.bytes += bytes;
    }

    fn log(&self, level: AccessLevel) {
        let receipt = self.request.receipt.get().map(|receipt| receipt.to_string());
        let line = AccessLine {
            method: self.method,
            route: &self.route,
            status: self.status.map(|status| status.as_u16()),
            problem: self.problem.map(ProblemType::name),
            bytes: self.bytes,
            duration_ms: self.began.elapsed(),
            outcome: self.outcome.as_str(),
            content: self.request.content.get(),
            receipt: receipt.as_ref().and_then(|receipt| receipt.get(..SHOWN_OF_RECEIPT)),
        };
        let ids = AccessIds { request_id: self.request.id.as_str(), trace: self.request.trace.as_ref() };
        access::write(level, &line, ids);
    }

    fn send_span(&self, trace: TraceContext) {
        self.spans.ended(trace, |trace| RequestSpan {
            trace,
            method: self.method,
            route: self.route.clone().into_owned(),
            status: self.status.map(|status| status.as_u16()),
            problem: self.problem.map(ProblemType::name),
            outcome: self.outcome.as_str(),
            bytes: self.bytes,
            request_id: self.request.id.as_str().to_owned(),
            ended: SystemTime::now(),
            duration: self.began.elapsed(),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.metrics.request_ended(&EndedRequest {
            route: &self.route,
            class: self.class,
            method: self.method,
            status: status_class(self.status),
            outcome: self.outcome.as_str(),
            bytes: self.bytes,
        });
        self.log(if self.class == RouteClass::Operations { AccessLevel::Debug } else { AccessLevel::Info });
        if let Some(trace) = self.request.trace.clone() {
            self.send_span(trace);
        }
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
