//! `/v1/data`: content, delivered by the node, its storage, a CDN, or the nginx in front.
//!
//! Receipt, quota, media type and size are checked as for a stream, in the same order. If another server delivers, the
//! receipt is charged at once for everything that is handed over; [`penstock_actors::content::delegation`] explains why. The
//! node itself streams content for which there is no URL, and requests that nginx would answer differently.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderMap, HeaderName},
    web::{Data, Query, ServiceConfig},
};
use ipnet::IpNet;
use penstock_actors::{
    content::delegation::{DelegationError, DelegationResult, Delegator},
    ports::{ReceiptView, SignedUrl},
    quota::book::Demand,
};
use serde::Deserialize;

use super::{
    Problem, ProblemType,
    problem::unreadable,
    routing,
    streaming::{self, AdmittedStream, ContentHeaders, RightQuery, StreamRequest, counted},
};
use crate::http::schemas::{answers, scalars};
use crate::telemetry::metrics::Mode;

/// Digits of a number that every parser of ranges can hold.
const DIGITS: usize = 18;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub streaming: streaming::Deps,
    pub deliverer: Arc<Deliverer>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(data))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(routing::resource("/v1/data").route(routing::read().to(data)));
}

/// The server that delivers.
pub enum Deliverer {
    Node,
    /// The server that the delegator's URLs name.
    Url {
        mode: Mode,
        delegator: Delegator,
    },
    /// The nginx in front, in one of these networks: only it understands the internal redirect.
    Proxy {
        delegator: Delegator,
        trusted: Vec<IpNet>,
    },
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct DataQuery {
    /// The content
    #[param(value_type = scalars::Hash, required = true)]
    content_hash: Option<String>,
    /// Whether the URL of another server comes as a redirect
    #[param(value_type = Option<bool>)]
    redirect: Option<String>,
}

#[utoipa::path(
    get,
    path = "/v1/data",
    operation_id = "deliverContent",
    tag = "Content",
    summary = "Deliver content by the configured mode",
    description = "The node streams the content, gives a URL of its storage or of a CDN, or has the nginx in front deliver it.",
    params(DataQuery, RightQuery, ("X-Receipt-Id" = Option<scalars::ReceiptName>, Header, description = "The receipt, in place of the parameter"), ("X-Session-Id" = Option<scalars::Id>, Header, description = "The session, in place of the parameter"), ("Range" = Option<String>, Header, description = "Ranges of bytes, such as `bytes=0-99` (RFC 9110, section 14)", example = "bytes=0-99"), ("If-Match" = Option<String>, Header, description = "Only if the content has this tag"), ("If-None-Match" = Option<String>, Header, description = "Only if the content has another tag"), ("If-Modified-Since" = Option<String>, Header, description = "Only if the content was stored later"), ("If-Unmodified-Since" = Option<String>, Header, description = "Only if the content was not stored later"), ("If-Range" = Option<String>, Header, description = "The range only if this tag or this date still holds, and all of the content otherwise")),
    responses(
        (status = 200, description = "The content", content((answers::Delivery = "application/json"), ([u8] = "*/*")), headers(("ETag" = String, description = "The hash of the content, quoted"), ("Last-Modified" = String, description = "When the content was stored"), ("Cache-Control" = String, description = "`private, no-cache`"), ("Accept-Ranges" = String, description = "`bytes`"), ("Repr-Digest" = String, description = "The digest of the whole content (RFC 9530)"), ("Content-Security-Policy" = String, description = "What the content may do in a browser"), ("Cross-Origin-Resource-Policy" = String, description = "`cross-origin`"), ("X-Receipt-Id" = String, description = "The receipt"), ("X-Session-Id" = String, description = "The session"), ("X-Quota-Tier" = String, description = "The tier of the receipt"), ("X-Quota-Remaining-Bytes" = Option<u64>, description = "The bytes that are left; absent where the tier has no limit"), ("Content-Disposition" = String, description = "Whether a browser shows or saves the content"))),
        (status = 206, description = "The ranges; several ranges are `multipart/byteranges`", body = [u8], content_type = "*/*", headers(("ETag" = String, description = "The hash of the content, quoted"), ("Last-Modified" = String, description = "When the content was stored"), ("Cache-Control" = String, description = "`private, no-cache`"), ("Accept-Ranges" = String, description = "`bytes`"), ("Repr-Digest" = String, description = "The digest of the whole content (RFC 9530)"), ("Content-Security-Policy" = String, description = "What the content may do in a browser"), ("Cross-Origin-Resource-Policy" = String, description = "`cross-origin`"), ("X-Receipt-Id" = String, description = "The receipt"), ("X-Session-Id" = String, description = "The session"), ("X-Quota-Tier" = String, description = "The tier of the receipt"), ("X-Quota-Remaining-Bytes" = Option<u64>, description = "The bytes that are left; absent where the tier has no limit"), ("Content-Disposition" = String, description = "Whether a browser shows or saves the content"), ("Content-Range" = Option<String>, description = "The range and the size; absent with several ranges"))),
        (status = 302, description = "The URL, with `redirect=true`", headers(("Location" = String, description = "The URL"))),
        (status = 304, description = "The client has the content", headers(("ETag" = String, description = "The hash of the content, quoted"), ("Last-Modified" = String, description = "When the content was stored"), ("Cache-Control" = String, description = "`private, no-cache`"), ("Accept-Ranges" = String, description = "`bytes`"), ("Repr-Digest" = String, description = "The digest of the whole content (RFC 9530)"), ("Content-Security-Policy" = String, description = "What the content may do in a browser"), ("Cross-Origin-Resource-Policy" = String, description = "`cross-origin`"), ("X-Receipt-Id" = String, description = "The receipt"), ("X-Session-Id" = String, description = "The session"), ("X-Quota-Tier" = String, description = "The tier of the receipt"), ("X-Quota-Remaining-Bytes" = Option<u64>, description = "The bytes that are left; absent where the tier has no limit"))),
    ),
    extensions(("x-problems" = json!(["malformed-request", "unknown-receipt", "receipt-not-confirmed", "receipt-expired", "receipt-refunded", "media-type-not-allowed", "origin-not-allowed", "receipt-consumed", "receipt-for-other-content", "content-not-stored", "precondition-failed", "content-too-large", "range-not-satisfiable", "quota-exceeded", "too-many-streams", "content-unavailable", "shutting-down", "misdirected"]))),
)]
async fn data(
    request: HttpRequest,
    query: Query<DataQuery>,
    right: Query<RightQuery>,
    deps: Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let Deps { streaming: deps, deliverer } = &**deps;
    let hash = query.content_hash.as_deref().ok_or_else(|| Problem::malformed("contentHash is missing"))?;
    let asked = StreamRequest::read(&request, hash, &right, deps)?;
    // Without a URL the parameter has no effect, but it is validated all the same.
    let redirect = match query.redirect.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::malformed("redirect is true or false")),
    };
    let (mode, delegator, trusted) = match &**deliverer {
        Deliverer::Node => return streaming::serve(&request, asked, deps).await,
        Deliverer::Url { mode, delegator } => (*mode, delegator, None),
        Deliverer::Proxy { delegator, trusted } => (Mode::Accel, delegator, Some(trusted)),
    };
    if let Some(answer) = streaming::without_content(&request, &asked, deps).await? {
        return Ok(answer);
    }
    let given = match trusted {
        None => by_url(&request, asked, deps, delegator, redirect).await,
        Some(trusted) => by_proxy(&request, asked, deps, delegator, trusted).await,
    };
    match given {
        Ok(DeliveryOutcome::Elsewhere(answer)) => counted(&deps.metrics, mode, Ok(answer)),
        Ok(DeliveryOutcome::Streamed(answer)) => counted(&deps.metrics, Mode::Stream, Ok(answer)),
        Err(problem) => counted(&deps.metrics, mode, Err(problem)),
    }
}

/// The result of the choice of a deliverer.
enum DeliveryOutcome {
    Elsewhere(HttpResponse),
    Streamed(HttpResponse),
}

/// Gives a URL of the whole content. A URL cannot be limited to a part, so the charge is for the whole too.
async fn by_url(
    request: &HttpRequest,
    asked: StreamRequest,
    deps: &streaming::Deps,
    delegator: &Delegator,
    redirect: bool,
) -> Result<DeliveryOutcome, Problem> {
    let hand_over = |headers: &ContentHeaders, _: &ReceiptView, signed: &SignedUrl| {
        if redirect { headers.redirect(signed) } else { Ok(headers.url(signed)) }
    };
    match delegate(asked, deps, Demand::Whole, delegator, hand_over).await? {
        Handoff::Over(answer) => Ok(DeliveryOutcome::Elsewhere(answer)),
        Handoff::Back(entry) => {
            let ranges = streaming::select(request, &asked, deps).await?;
            Ok(DeliveryOutcome::Streamed(streaming::send(request, *entry, ranges, deps).await?))
        }
    }
}

/// Has nginx answer this request, for the whole content or for one range: the charge is for that.
async fn by_proxy(
    request: &HttpRequest,
    asked: StreamRequest,
    deps: &streaming::Deps,
    delegator: &Delegator,
    trusted: &[IpNet],
) -> Result<DeliveryOutcome, Problem> {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    if !peer.is_some_and(|peer| trusted.iter().any(|network| network.contains(&peer))) {
        let detail = "the proxy in front of this node delivers the content: send the request there";
        return Err(Problem::new(ProblemType::Misdirected).detail(detail));
    }
    if !nginx_agrees(request.headers()) || (deps.shortens_ranges() && request.headers().contains_key(header::RANGE)) {
        return Ok(DeliveryOutcome::Streamed(streaming::stream(request, asked, deps).await?));
    }
    let ranges = streaming::select(request, &asked, deps).await?;
    let demand = ranges.as_ref().map_or(Demand::Whole, |ranges| Demand::Bytes(ranges.content_bytes()));
    let hand_over =
        |headers: &ContentHeaders, view: &ReceiptView, signed: &SignedUrl| Ok(headers.internal(signed, rate(view)));
    match delegate(asked, deps, demand, delegator, hand_over).await? {
        Handoff::Over(answer) => Ok(DeliveryOutcome::Elsewhere(answer)),
        Handoff::Back(entry) => Ok(DeliveryOutcome::Streamed(streaming::send(request, *entry, ranges, deps).await?)),
    }
}

/// The outcome for an admitted request.
enum Handoff {
    Over(HttpResponse),
    /// The node must stream it.
    Back(Box<AdmittedStream>),
}

/// Reserves, has a URL made, charges, and answers as `hand_over` says. An error on the way charges nothing.
async fn delegate(
    asked: StreamRequest,
    deps: &streaming::Deps,
    demand: Demand,
    delegator: &Delegator,
    hand_over: impl FnOnce(&ContentHeaders, &ReceiptView, &SignedUrl) -> Result<HttpResponse, Problem>,
) -> Result<Handoff, Problem> {
    let AdmittedStream { reservation, headers, permit } =
        streaming::admit(asked, deps, demand, streaming::place(asked.receipt, deps)?).await?;
    let view = Arc::clone(&reservation.grant().view);
    match delegator.delegate(reservation, &headers.disposition().to_string()).await {
        Ok(DelegationResult::Given(signed)) => Ok(Handoff::Over(hand_over(&headers, &view, &signed)?)),
        Ok(DelegationResult::Kept(reservation)) => {
            Ok(Handoff::Back(Box::new(AdmittedStream { reservation: *reservation, headers, permit })))
        }
        Err(DelegationError::Expired) => Err(ProblemType::ReceiptExpired.into()),
        Err(DelegationError::Revoked) => {
            // The present state of the receipt gives the reason. If the receipt has become valid again, the client
            // retries.
            streaming::inspect(&asked, deps).await?;
            Err(ProblemType::DependencyUnavailable.into())
        }
        Err(DelegationError::Store(error)) => Err(unreadable(&deps.node.content.failed(asked.hash, error).await)),
    }
}

/// Whether nginx gives exactly the node's answer. nginx evaluates conditions without the content's tag and the node's
/// rules, so the node answers conditional requests itself; of ranges, both interpret only the plain ones alike.
fn nginx_agrees(headers: &HeaderMap) -> bool {
    const JUDGED: [HeaderName; 4] =
        [header::IF_MATCH, header::IF_RANGE, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];
    let mut ranges = headers.get_all(header::RANGE);
    !JUDGED.iter().any(|name| headers.contains_key(name))
        && ranges.next().is_none_or(|range| is_plain(range.as_bytes()))
        && ranges.next().is_none()
}

/// `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH`, nothing else.
fn is_plain(range: &[u8]) -> bool {
    let Some(spec) = range.strip_prefix(b"bytes=") else { return false };
    let Some(dash) = spec.iter().position(|&byte| byte == b'-') else { return false };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    let number = |text: &[u8]| text.len() <= DIGITS && text.iter().all(u8::is_ascii_digit);
    number(first) && number(last) && !(first.is_empty() && last.is_empty())
}

/// Bytes per second that the tier allows; `None` is unlimited. Zero would mean unlimited to nginx.
fn rate(view: &ReceiptView) -> Option<u64> {
    let mbps = view.policy.max_bandwidth_mbps.filter(|mbps| *mbps > 0.0)?;
    Some(((mbps * 1e6 / 8.0) as u64).max(1))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn nginx_answers_what_it_reads_as_the_node_does() {
        let agrees = |fields: &[(&str, &str)]| {
            let request =
                fields.iter().fold(TestRequest::get(), |request, &(name, value)| request.append_header((name, value)));
            nginx_agrees(request.to_http_request().headers())
        };
        for range in ["bytes=0-0", "bytes=5-", "bytes=-30", "bytes=7-3"] {
            assert!(agrees(&[("range", range)]), "{range}");
            assert!(!agrees(&[("range", range), ("if-range", "\"tag\"")]), "{range}");
            assert!(!agrees(&[("range", range), ("range", range)]), "{range}");
        }
        for range in [
            "bytes=0-1,3-4",
            "bytes=0-0,",
            "bytes= 0-1",
            "BYTES=0-1",
            "items=0-1",
            "bytes=-",
            "bytes=",
            "bytes=1",
            "bytes=0-9999999999999999999",
            "bytes=--1",
        ] {
            assert!(!agrees(&[("range", range)]), "{range}");
        }
        assert!(agrees(&[]) && agrees(&[("if-none-match", "\"tag\"")]));
        for condition in ["if-match", "if-modified-since", "if-unmodified-since"] {
            assert!(!agrees(&[(condition, "x")]), "{condition}");
        }
    }
}
