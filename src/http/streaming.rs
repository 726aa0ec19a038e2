//! Streams: content for clients with a receipt.
//!
//! One question decides about the receipt, the quota and the stream slot together; the body then runs without the handler,
//! and settles itself when it ends or is dropped. Preconditions come before ranges (RFC 9110, section
//! 13.2.2), and the receipt before both: a client that may not stream learns nothing about the content.

use std::sync::{Arc, Weak};

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{
        Method,
        header::{self, HeaderValue},
    },
    web::{Data, Path, Query, ServiceConfig},
};
use penstock_actors::{
    content::delivery::{DeliveryOrder, DeliveryPlan},
    flow::fairness::{FairPermit, NotAdmitted},
    ids::{ContentHash, ReceiptId},
    model::{ClientMark, StreamSession},
    node::Node,
    ports::Connection,
    quota::{
        book::{Demand, StreamAsk},
        cache::Reservation,
    },
};
use serde::Deserialize;

mod browsers;
pub(crate) mod conditions;
mod headers;
pub(crate) mod range;

pub(super) use self::headers::ContentHeaders;
use self::{
    conditions::{Precondition, RangeCondition},
    range::RangeAnswer,
};
use super::{
    Origins, Problem, ProblemType, Proxies, Readiness, ReceiptReader, middleware::observe::note_content,
    problem::unreadable, routing,
};
use crate::http::schemas::scalars;
use crate::{
    client_marks::{ClientMarks, LastMark},
    content_sizes::ContentSizes,
    http_server::client_socket::ClientSocket,
    popularity::Popularity,
    telemetry::{
        Metrics,
        metrics::{AnswerOutcome, Mode},
    },
};

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(by_path))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/streaming/data/{contentHash}").route(routing::read().to(by_path)));
}

/// Settings of the answers with content.
#[derive(Debug, Clone)]
pub struct StreamingSettings {
    /// The longest range of one answer in bytes; 0 means no limit. A longer range is answered with its beginning.
    pub max_range_bytes: u64,
    /// The host, as `content.example.com:8443`, under which clients reach content and nothing else that they trust;
    /// empty if there is none.
    pub content_host: String,
    /// Proxies that state the address of a client.
    pub proxies: Proxies,
    /// Pages that may read content, beside the node's own.
    pub origins: Origins,
}

/// The receipt and the session.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct RightQuery {
    /// The receipt; it may come as `X-Receipt-Id` instead
    #[param(value_type = Option<scalars::ReceiptName>)]
    receipt_id: Option<String>,
    /// The session, if there is one
    #[param(value_type = Option<scalars::Id>)]
    session_id: Option<String>,
}

/// The dependencies of the routes with content.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub metrics: Arc<Metrics>,
    pub settings: StreamingSettings,
    pub sizes: Arc<ContentSizes>,
    pub uses: Arc<Popularity>,
    pub readiness: Arc<Readiness>,
    pub reader: Arc<ReceiptReader>,
    pub marks: Arc<ClientMarks>,
}

impl Deps {
    /// Whether a request came to the host that serves nothing but content.
    fn is_among_content(&self, request: &HttpRequest) -> bool {
        let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
        !self.settings.content_host.is_empty()
            && host.is_some_and(|host| host.eq_ignore_ascii_case(self.settings.content_host.as_bytes()))
    }

    /// Whether a range may be answered with its beginning alone.
    pub(super) fn shortens_ranges(&self) -> bool {
        self.settings.max_range_bytes > 0
    }
}

#[utoipa::path(
    get,
    path = "/v1/streaming/data/{contentHash}",
    operation_id = "streamContent",
    tag = "Content",
    summary = "Stream content",
    description = "The whole content or ranges of it, charged to the receipt. HEAD and conditional requests without content cost nothing.",
    params(("contentHash" = scalars::Hash, Path, description = "The content"), RightQuery, ("X-Receipt-Id" = Option<scalars::ReceiptName>, Header, description = "The receipt, in place of the parameter"), ("X-Session-Id" = Option<scalars::Id>, Header, description = "The session, in place of the parameter"), ("Range" = Option<String>, Header, description = "Ranges of bytes, such as `bytes=0-99` (RFC 9110, section 14)", example = "bytes=0-99"), ("If-Match" = Option<String>, Header, description = "Only if the content has this tag"), ("If-None-Match" = Option<String>, Header, description = "Only if the content has another tag"), ("If-Modified-Since" = Option<String>, Header, description = "Only if the content was stored later"), ("If-Unmodified-Since" = Option<String>, Header, description = "Only if the content was not stored later"), ("If-Range" = Option<String>, Header, description = "The range only if this tag or this date still holds, and all of the content otherwise")),
    responses(
        (status = 200, description = "The content", body = [u8], content_type = "*/*", headers(("ETag" = String, description = "The hash of the content, quoted"), ("Last-Modified" = String, description = "When the content was stored"), ("Cache-Control" = String, description = "`private, no-cache`"), ("Accept-Ranges" = String, description = "`bytes`"), ("Repr-Digest" = String, description = "The digest of the whole content (RFC 9530)"), ("Content-Security-Policy" = String, description = "What the content may do in a browser"), ("Cross-Origin-Resource-Policy" = String, description = "`cross-origin`"), ("X-Receipt-Id" = String, description = "The receipt"), ("X-Session-Id" = String, description = "The session"), ("X-Quota-Tier" = String, description = "The tier of the receipt"), ("X-Quota-Remaining-Bytes" = Option<u64>, description = "The bytes that are left; absent where the tier has no limit"), ("Content-Disposition" = String, description = "Whether a browser shows or saves the content"))),
        (status = 206, description = "The ranges; several ranges are `multipart/byteranges`", body = [u8], content_type = "*/*", headers(("ETag" = String, description = "The hash of the content, quoted"), ("Last-Modified" = String, description = "When the content was stored"), ("Cache-Control" = String, description = "`private, no-cache`"), ("Accept-Ranges" = String, description = "`bytes`"), ("Repr-Digest" = String, description = "The digest of the whole content (RFC 9530)"), ("Content-Security-Policy" = String, description = "What the content may do in a browser"), ("Cross-Origin-Resource-Policy" = String, description = "`cross-origin`"), ("X-Receipt-Id" = String, description = "The receipt"), ("X-Session-Id" = String, description = "The session"), ("X-Quota-Tier" = String, description = "The tier of the receipt"), ("X-Quota-Remaining-Bytes" = Option<u64>, description = "The bytes that are left; absent where the tier has no limit"), ("Content-Disposition" = String, description = "Whether a browser shows or saves the content"), ("Content-Range" = Option<String>, description = "The range and the size; absent with several ranges"))),
        (status = 304, description = "The client has the content", headers(("ETag" = String, description = "The hash of the content, quoted"), ("Last-Modified" = String, description = "When the content was stored"), ("Cache-Control" = String, description = "`private, no-cache`"), ("Accept-Ranges" = String, description = "`bytes`"), ("Repr-Digest" = String, description = "The digest of the whole content (RFC 9530)"), ("Content-Security-Policy" = String, description = "What the content may do in a browser"), ("Cross-Origin-Resource-Policy" = String, description = "`cross-origin`"), ("X-Receipt-Id" = String, description = "The receipt"), ("X-Session-Id" = String, description = "The session"), ("X-Quota-Tier" = String, description = "The tier of the receipt"), ("X-Quota-Remaining-Bytes" = Option<u64>, description = "The bytes that are left; absent where the tier has no limit"))),
    ),
    extensions(("x-problems" = json!(["malformed-request", "unknown-receipt", "receipt-not-confirmed", "receipt-expired", "receipt-refunded", "media-type-not-allowed", "origin-not-allowed", "receipt-consumed", "receipt-for-other-content", "content-not-stored", "precondition-failed", "content-too-large", "range-not-satisfiable", "quota-exceeded", "too-many-streams", "content-unavailable", "shutting-down"]))),
)]
async fn by_path(
    request: HttpRequest,
    hash: Path<String>,
    query: Query<RightQuery>,
    deps: Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let asked = StreamRequest::read(&request, &hash, &query, &deps)?;
    serve(&request, asked, &deps).await
}

/// A client's request to stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamRequest {
    pub(super) hash: ContentHash,
    pub(super) receipt: ReceiptId,
    session: StreamSession,
    client: Option<ClientMark>,
    /// At the host that serves nothing but content.
    among_content: bool,
}

impl StreamRequest {
    pub(super) fn read(request: &HttpRequest, hash: &str, query: &RightQuery, deps: &Deps) -> Result<Self, Problem> {
        deps.settings.origins.check(request)?;
        let receipt = one_of(request, "x-receipt-id", "receiptId", query.receipt_id.as_deref())?
            .ok_or_else(|| Problem::malformed("send the receipt as receiptId or X-Receipt-Id"))?;
        let session = one_of(request, "x-session-id", "sessionId", query.session_id.as_deref())?;
        let (hash, receipt) = (hash.parse()?, deps.reader.open(receipt)?);
        let peer = request.peer_addr().map(|peer| peer.ip());
        let address = deps.settings.proxies.client(peer, request.headers());
        note_content(hash);
        let session = match session {
            Some(id) => StreamSession::Named(id.parse()?),
            None => StreamSession::unnamed(hash, address),
        };
        let client = deps.marks.mark(request.conn_data::<LastMark>(), address);
        Ok(Self { hash, receipt, session, client, among_content: deps.is_among_content(request) })
    }

    const fn ask(&self, demand: Demand) -> StreamAsk {
        StreamAsk { receipt_id: self.receipt, content_hash: self.hash, demand }
    }
}

/// A value that may come as a header or in the query; if it comes as both, they must be equal.
fn one_of<'a>(
    request: &'a HttpRequest,
    header: &'static str,
    parameter: &'static str,
    in_query: Option<&'a str>,
) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(header);
    let in_header = match values.next() {
        Some(value) => Some(value.to_str().map_err(|_| Problem::malformed(format!("{header} is not text")))?),
        None => None,
    };
    if values.next().is_some() {
        return Err(Problem::malformed(format!("{header} occurs twice")));
    }
    match (in_header, in_query) {
        (Some(header_value), Some(query_value)) if header_value != query_value => {
            Err(Problem::malformed(format!("{header} and {parameter} differ")))
        }
        (in_header, in_query) => Ok(in_header.or(in_query)),
    }
}

/// Answers with a stream of the node's own.
pub(super) async fn serve(request: &HttpRequest, asked: StreamRequest, deps: &Deps) -> Result<HttpResponse, Problem> {
    match without_content(request, &asked, deps).await? {
        Some(answer) => Ok(answer),
        None => counted(&deps.metrics, Mode::Stream, stream(request, asked, deps).await),
    }
}

/// The answer, if it has no content: to HEAD, and when a precondition decides. It is the same whichever server
/// delivers, and is not charged.
pub(super) async fn without_content(
    request: &HttpRequest,
    asked: &StreamRequest,
    deps: &Deps,
) -> Result<Option<HttpResponse>, Problem> {
    if deps.readiness.is_draining() {
        return Err(ProblemType::ShuttingDown.into());
    }
    let is_head = request.method() == Method::HEAD;
    if !is_head && !conditions::are_there(request) {
        return Ok(None);
    }
    let headers = inspect(asked, deps).await?;
    match conditions::evaluate(request, asked.hash, headers.stored_at) {
        Some(Precondition::NotModified) => Ok(Some(headers.not_modified())),
        Some(Precondition::Failed) => Err(ProblemType::PreconditionFailed.into()),
        None if !is_head => Ok(None),
        None => {
            deps.node.content.admit(asked.hash).map_err(|error| unreadable(&error))?;
            Ok(Some(headers.head()))
        }
    }
}

/// Counts the outcome of a request for content.
pub(super) fn counted<T>(metrics: &Metrics, mode: Mode, answer: Result<T, Problem>) -> Result<T, Problem> {
    let outcome = match &answer {
        Ok(_) => AnswerOutcome::Served,
        Err(problem) => problem.kind().outcome(),
    };
    metrics.deliveries.asked(mode, outcome);
    answer
}

/// Admits a stream and opens its body.
pub(super) async fn stream(request: &HttpRequest, asked: StreamRequest, deps: &Deps) -> Result<HttpResponse, Problem> {
    let place = place(asked.receipt, deps)?;
    let ranges = select(request, &asked, deps).await?;
    let demand = ranges.as_ref().map_or(Demand::Whole, |ranges| Demand::Bytes(ranges.content_bytes()));
    let entry = admit(asked, deps, demand, place).await?;
    send(request, entry, ranges, deps).await
}

/// Whether the receipt admits a stream, and the properties of the content.
pub(super) async fn inspect(asked: &StreamRequest, deps: &Deps) -> Result<ContentHeaders, Problem> {
    let grant = deps.node.quota.inspect(asked.receipt, asked.hash).await?;
    let headers = ContentHeaders::new(&grant, asked)?;
    deps.sizes.remember(asked.hash, headers.size).await;
    Ok(headers)
}

/// The requested ranges, parsed with the size of the content; `None` for all of it. Only a client that may stream is
/// told of a bad range.
pub(super) async fn select(
    request: &HttpRequest,
    asked: &StreamRequest,
    deps: &Deps,
) -> Result<Option<RangeAnswer>, Problem> {
    let stored_at = match conditions::range_condition(request, asked.hash) {
        RangeCondition::None => return Ok(None),
        RangeCondition::Always => None,
        RangeCondition::StoredAt(second) => Some(second),
    };
    if stored_at.is_none()
        && let Some(size) = deps.sizes.get(&asked.hash).await
        && let Ok(selected) = range::select(request, size, &deps.settings)
    {
        return Ok(selected);
    }
    let headers = inspect(asked, deps).await?;
    if stored_at.is_some_and(|second| second != headers.stored_at.as_second()) {
        return Ok(None);
    }
    range::select(request, headers.size, &deps.settings)
}

/// An admitted stream: its reservation, and its place on this instance.
pub(super) struct AdmittedStream {
    pub(super) reservation: Reservation,
    pub(super) headers: ContentHeaders,
    pub(super) permit: FairPermit<ReceiptId>,
}

/// A place for a stream. It is asked for before anything else, so that a node with as many streams as it may have refuses further ones
/// without a question to an actor or the ledger.
pub(super) fn place(receipt: ReceiptId, deps: &Deps) -> Result<FairPermit<ReceiptId>, Problem> {
    deps.node.streams.try_admit(receipt).map_err(not_admitted)
}

/// Admits a stream that has a place. An error after the reservation releases it.
pub(super) async fn admit(
    asked: StreamRequest,
    deps: &Deps,
    demand: Demand,
    permit: FairPermit<ReceiptId>,
) -> Result<AdmittedStream, Problem> {
    let reservation = deps.node.quota.acquire(asked.ask(demand), asked.session).await?.of_client(asked.client);
    // Also when another server delivers: damaged content must not be handed out.
    deps.node.content.admit(asked.hash).map_err(|error| unreadable(&error))?;
    deps.node.used(asked.hash);
    let headers = ContentHeaders::new(reservation.grant(), &asked)?;
    Ok(AdmittedStream { reservation, headers, permit })
}

/// The instance has as many streams as it may have, or the receipt has its share of them.
fn not_admitted(refusal: NotAdmitted) -> Problem {
    match refusal {
        NotAdmitted::Full => Problem::new(ProblemType::Overloaded).caused_by("streams.max_streams are running"),
        NotAdmitted::HolderHasShare { held } => Problem::new(ProblemType::TooManyStreams)
            .detail("the receipt has its share of the streams of this instance")
            .with("limit", held)
            .with("used", held)
            .with("remaining", 0),
    }
}

/// Opens the body of a stream that was admitted for at least this much.
pub(super) async fn send(
    request: &HttpRequest,
    entry: AdmittedStream,
    ranges: Option<RangeAnswer>,
    deps: &Deps,
) -> Result<HttpResponse, Problem> {
    let AdmittedStream { reservation, headers, permit } = entry;
    deps.uses.content(&headers.hash);
    let plan = match &ranges {
        Some(ranges) => ranges.plan(&headers.media_type, headers.size),
        None => DeliveryPlan::single(0..headers.size),
    };
    let length = plan.body_bytes();
    let connection = request.conn_data::<Weak<dyn Connection>>().cloned().unwrap_or_else(ClientSocket::unknown);
    let order = DeliveryOrder { plan, reservation, permit, connection };
    let delivery = deps.node.deliver(order).await.map_err(|error| unreadable(&error))?;
    Ok(headers.answer(ranges.as_ref(), SizedStream::new(length, delivery)))
}
