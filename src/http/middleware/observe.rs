//! The outermost middleware: gives each request its id and span, and records how it ended.
//!
//! An answer has ended when its body has, so the [`Exchange`] travels in the body and reports when it is dropped:
//! completed, failed, or aborted by the client, exactly once and in every case.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage as _,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderValue},
    middleware::Next,
    web::Bytes,
};
use tracing::Instrument as _;

use crate::telemetry::metrics::HttpMetrics;

mod exchange;
mod failures;
mod ids;

use exchange::{Exchange, ExchangeOutcome};
pub(in crate::http) use failures::FailureLog;
pub use ids::RequestId;
use ids::{REQUEST_ID, trace_of};

/// Runs one request under its span and hands its [`Exchange`] to the body of the answer.
pub(in crate::http) async fn observe(
    metrics: Arc<HttpMetrics>,
    failures: Rc<FailureLog>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let id = RequestId::of(request.headers());
    let trace = trace_of(request.headers());
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        trace_id = trace.as_ref().map(|trace| trace.trace_id),
        parent_id = trace.as_ref().map(|trace| trace.parent_id),
    );
    let head_only = request.method() == Method::HEAD;
    let mut exchange = Exchange::begin(metrics, span.clone(), request.method());
    request.extensions_mut().insert(id.clone());

    let mut answer = next.call(request).instrument(span.clone()).await?;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    span.in_scope(|| failures.note(&answer));
    exchange.answered(answer.request().match_pattern(), answer.status());
    Ok(answer.map_body(|_, body| BoxBody::new(ObservedBody::new(body, exchange, head_only))))
}

/// A body that counts the bytes that the connection took from it.
struct ObservedBody {
    body: BoxBody,
    exchange: Exchange,
    /// Declared bytes that have not been taken yet; `None` when the length is not known beforehand.
    left: Option<u64>,
    /// The answer to HEAD declares the length of the body, but has no body: none is generated.
    head_only: bool,
}

impl ObservedBody {
    fn new(body: BoxBody, mut exchange: Exchange, head_only: bool) -> Self {
        let left = match body.size() {
            BodySize::None => Some(0),
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
        if left == Some(0) || head_only {
            exchange.outcome = ExchangeOutcome::Completed;
        }
        Self { body, exchange, left, head_only }
    }
}

impl MessageBody for ObservedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.head_only {
            return Poll::Ready(None);
        }
        let part = std::task::ready!(this.body.as_pin_mut().poll_next(context));
        match &part {
            Some(Ok(bytes)) => {
                let taken = bytes.len() as u64;
                this.exchange.bytes += taken;
                this.left = this.left.map(|left| left.saturating_sub(taken));
                if this.left == Some(0) {
                    this.exchange.outcome = ExchangeOutcome::Completed;
                }
            }
            Some(Err(_)) => this.exchange.outcome = ExchangeOutcome::Failed,
            // If a body ends before its declared length, the connection is closed.
            None if this.left.is_none_or(|left| left == 0) => this.exchange.outcome = ExchangeOutcome::Completed,
            None => this.exchange.outcome = ExchangeOutcome::Failed,
        }
        Poll::Ready(part)
    }
}
