//! Spans to a collector by OTLP, as protobuf over HTTP.
//!
//! **Bound.** [`QUEUE`] spans wait for the next batch; further ones are lost, and the log says so. A batch is sent every five seconds,
//! or when it is full, by a thread of the library; the connection is on the node's runtime for I/O.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _},
};
use tokio::runtime::Handle;

use super::spans::{RequestSpan, SpanSink};

/// Spans that wait, at about a kilobyte each.
const QUEUE: usize = 4096;

/// The longest time of a batch on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends spans to a collector.
pub struct OtlpSpans {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl OtlpSpans {
    /// To the collector at this address, such as `http://127.0.0.1:4318/v1/traces`, under this name of the instance.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub fn open(endpoint: &str, instance: String, io: Handle) -> anyhow::Result<Self> {
        // Another part of the process may have installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnIo { client, io })
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()?;
        let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder()
            .with_service_name("penstock")
            .with_attributes([
                KeyValue::new("service.version", version),
                KeyValue::new("service.instance.id", instance),
            ])
            .build();
        processor.set_resource(&resource);
        Ok(Self { processor, scope: InstrumentationScope::builder("penstock").with_version(version).build() })
    }
}

impl SpanSink for OtlpSpans {
    fn ended(&self, span: RequestSpan) {
        let data = data(span, self.scope.clone());
        self.processor.on_end(data);
    }

    fn close(&self, patience: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "the last spans were not sent to the collector; they are lost");
        }
    }
}

/// By OpenTelemetry's conventions for servers of HTTP.
fn data(span: RequestSpan, scope: InstrumentationScope) -> SpanData {
    let RequestSpan { trace, method, route, status, problem, outcome, bytes, request_id, ended, duration } = span;
    // The texts are hexadecimal digits of the right length.
    let id = |text: &str| SpanId::from_hex(text).unwrap_or(SpanId::INVALID);
    let trace_id = TraceId::from_hex(trace.trace_id()).unwrap_or(TraceId::INVALID);
    let context = SpanContext::new(trace_id, id(trace.span_id()), TraceFlags::SAMPLED, false, TraceState::NONE);
    let failed = status.is_none_or(|status| status >= 500) || outcome == "failed";
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.route", route.clone()),
        KeyValue::new("http.response.body.size", i64::try_from(bytes).unwrap_or(i64::MAX)),
        KeyValue::new("penstock.outcome", outcome),
        KeyValue::new("penstock.request_id", request_id),
    ];
    attributes.extend(status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
    attributes.extend(problem.map(|problem| KeyValue::new("error.type", problem)));
    SpanData {
        span_context: context,
        parent_span_id: trace.parent_id().map_or(SpanId::INVALID, id),
        parent_span_is_remote: true,
        span_kind: SpanKind::Server,
        name: format!("{method} {route}").into(),
        start_time: ended - duration,
        end_time: ended,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if failed { Status::error(problem.unwrap_or(outcome)) } else { Status::Unset },
        instrumentation_scope: scope,
    }
}

/// A client whose connections belong to the runtime for I/O, since the library's thread has none.
struct OnIo {
    client: reqwest::Client,
    io: Handle,
}

impl fmt::Debug for OnIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnIo")
    }
}

#[async_trait]
impl HttpClient for OnIo {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = async move {
            let answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        };
        self.io.spawn(sent).await?
    }
}
