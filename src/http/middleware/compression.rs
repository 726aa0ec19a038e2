//! Compression of JSON, of the metrics text and of the files of the node's own pages, negotiated, where it saves bytes.
//!
//! The framework's own middleware has no minimum size, compresses content too, and keeps a strong `ETag` on bytes that
//! it changed. This one compresses only answers that this program generates, over 1 KiB, and weakens the `ETag`.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_http::encoding::Encoder;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, AcceptEncoding, ContentEncoding, Encoding, Header as _, HeaderMap, HeaderValue},
    },
    middleware::Next,
};
use bytes::Bytes;

use crate::http::{problem, routing};

/// A smaller answer fits one packet anyway, so compressing it gains nothing.
const LEAST_BYTES: u64 = 1024;

/// Texts that this program generates or ships. Content may have the same types; its routes are left out.
const OUR_TEXTS: [&str; 5] = ["application/json", problem::MEDIA_TYPE, "text/html", "text/css", "text/javascript"];

/// Compresses the answer if the client accepts that and the answer is large enough.
pub(in crate::http) async fn compress(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let wanted = negotiate(&request);
    let head_only = request.method() == Method::HEAD;
    let mut answer = next.call(request).await?;
    if answer.request().match_pattern().is_some_and(|template| routing::carries_content(&template)) {
        return Ok(answer);
    }
    if answer.status() == StatusCode::NOT_MODIFIED {
        // A 304 has no body, and refers to a representation that was negotiated (RFC 9110, section 15.4.5).
        vary(answer.headers_mut());
        return Ok(answer);
    }
    if !is_compressible(answer.headers()) {
        return Ok(answer);
    }
    let large = matches!(answer.response().body().size(), BodySize::Sized(bytes) if bytes > LEAST_BYTES);
    let Some(encoding) = wanted.filter(|_| large) else {
        vary(answer.headers_mut());
        return Ok(answer);
    };
    weaken_etag(answer.headers_mut());
    if head_only {
        // As for GET, whose compressed length is not known beforehand.
        answer.headers_mut().insert(header::CONTENT_ENCODING, encoding.to_header_value());
        vary(answer.headers_mut());
        return Ok(answer.map_body(|_, _| BoxBody::new(EmptyBody)));
    }
    // The encoder adds `Vary`.
    Ok(answer.map_body(|head, body| BoxBody::new(Encoder::response(encoding, head, body))))
}

fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
}

/// The body of an answer to HEAD: no bytes, no length.
struct EmptyBody;

impl MessageBody for EmptyBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// The client's preferred encoding among those that this node supports. A client that accepts none of them, nor
/// identity, gets identity: that serves it better than a refusal.
fn negotiate(request: &ServiceRequest) -> Option<ContentEncoding> {
    let offered = [Encoding::brotli(), Encoding::zstd(), Encoding::gzip(), Encoding::identity()];
    match AcceptEncoding::parse(request).ok()?.negotiate(offered.iter())? {
        Encoding::Known(ContentEncoding::Identity) | Encoding::Unknown(_) => None,
        Encoding::Known(encoding) => Some(encoding),
    }
}

fn is_compressible(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim_end();
    let is_text = OUR_TEXTS.contains(&essence) || kind == prometheus::TEXT_FORMAT;
    is_text && !headers.contains_key(header::CONTENT_ENCODING)
}

/// The compressed bytes are another representation of the same resource.
fn weaken_etag(headers: &mut HeaderMap) {
    let weak = headers
        .get(header::ETAG)
        .filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        .and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}
