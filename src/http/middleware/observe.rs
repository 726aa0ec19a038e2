//! The outermost middleware: gives each request its id and span, and records how it ended.
//!
//! An answer has ended when its body has, so the [`Exchange`] travels in the body and reports when it is dropped:
//! completed, failed, or aborted by the client, exactly once and in every case.

use std::{
    cell::{Cell, OnceCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage as _,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Bytes,
};
use penstock_actors::{
    ids::{ContentHash, ReceiptId},
    task_span::{self, TaskSpan},
};
use tracing::{Instrument as _, Span};

use crate::{
    http::Problem,
    telemetry::{Spans, TraceContext, logs, metrics::HttpMetrics},
};

mod exchange;
mod failures;
mod ids;

use exchange::{Exchange, ExchangeOutcome};
pub(in crate::http) use failures::FailureLog;
pub use ids::RequestId;
use ids::{REQUEST_ID, trace_of};

/// The answer's place in the trace of its request, by the W3C's draft.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Notes the receipt under which the present request is made for its line in the log.
pub(in crate::http) fn note_receipt(receipt: ReceiptId) {
    // Code that no request has called notes nothing.
    let _ = REQUEST.try_with(|request| request.receipt.set(Some(receipt)));
}

/// Notes the content that the present request is about for its line in the log.
pub(in crate::http) fn note_content(content: ContentHash) {
    let _ = REQUEST.try_with(|request| request.content.set(Some(content)));
}

tokio::task_local! {
    static REQUEST: Rc<PresentRequest>;
}

/// What the log says about a request.
struct PresentRequest {
    id: RequestId,
    trace: Option<TraceContext>,
    span: OnceCell<Span>,
    /// Known once the handler has read them.
    receipt: Cell<Option<ReceiptId>>,
    content: Cell<Option<ContentHash>>,
}

impl PresentRequest {
    fn new(id: RequestId, trace: Option<TraceContext>) -> Rc<Self> {
        let request = Self { id, trace, span: OnceCell::new(), receipt: Cell::default(), content: Cell::default() };
        // A span that is traced, or that the filter of the log asks for, has to be there from the beginning.
        if request.trace.is_some() || logs::looks_into_spans() {
            request.span();
        }
        Rc::new(request)
    }

    fn entered<T>(self: &Rc<Self>, code: impl FnOnce() -> T) -> T {
        let _within = self.span.get().map(Span::enter);
        task_span::sync_scope(Rc::clone(self) as Rc<dyn TaskSpan>, code)
    }
}

impl TaskSpan for PresentRequest {
    fn span(&self) -> Span {
        let made = self.span.get_or_init(|| {
            let Self { id, trace, .. } = self;
            // At the level of errors, so that lines of every level name their request, and a trace is passed on at every level.
            let span = tracing::error_span!(
                "request",
                request_id = %id,
                trace_id = trace.as_ref().map(TraceContext::trace_id),
                parent_id = trace.as_ref().and_then(TraceContext::parent_id),
                span_id = trace.as_ref().map(TraceContext::span_id),
            );
            if let Some(trace) = trace {
                trace.clone().keep_with(&span);
            }
            span
        });
        made.clone()
    }
}

/// Where it is told what becomes of requests.
pub(in crate::http) struct Observing {
    pub(in crate::http) metrics: Arc<HttpMetrics>,
    pub(in crate::http) spans: Spans,
    pub(in crate::http) failures: Rc<FailureLog>,
}

/// Runs one request, whose lines name it, and hands its [`Exchange`] to the body of the answer.
pub(in crate::http) async fn observe(
    observing: Observing,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Observing { metrics, spans, failures } = observing;
    let trace = spans.trace_of(trace_of(request.headers()));
    let present = PresentRequest::new(RequestId::of(request.headers()), trace);
    let head_only = request.method() == Method::HEAD;
    let mut exchange = Exchange::begin(metrics, spans, Rc::clone(&present), request.method());
    request.extensions_mut().insert(present.id.clone());

    let handled = next.call(request).instrument(present.span.get().cloned().unwrap_or_else(Span::none));
    let handled = REQUEST.scope(Rc::clone(&present), handled);
    let mut answer = task_span::scope(Rc::clone(&present) as Rc<dyn TaskSpan>, handled).await?;
    if let Ok(value) = HeaderValue::from_str(present.id.as_str()) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(value) = present.trace.as_ref().and_then(|trace| HeaderValue::try_from(trace.to_string()).ok()) {
        answer.headers_mut().insert(TRACE_RESPONSE, value);
    }
    let problem = answer.response().error().and_then(|error| error.as_error::<Problem>());
    if answer.status().is_server_error() {
        present.entered(|| failures.note(answer.status(), problem));
    }
    exchange.answered(answer.request().match_pattern(), answer.status(), problem.map(Problem::kind));
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
        // What goes wrong with a stream names its request.
        let part = this.exchange.request.entered(|| this.body.as_pin_mut().poll_next(context));
        let part = std::task::ready!(part);
        match &part {
            Some(Ok(bytes)) => {
                let taken = bytes.len() as u64;
                this.exchange.sent(taken);
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
