//! Compression of JSON and of the metrics text, by negotiation, where it pays.
//!
//! The framework's own middleware has no least size, compresses content too and leaves a strong `ETag` on bytes that it
//! changed. This one compresses only what it knows to be ours, over 1 KiB, and weakens the `ETag`.

use actix_http::encoding::Encoder;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody as _},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, AcceptEncoding, ContentEncoding, Encoding, Header as _, HeaderMap, HeaderValue},
    },
    middleware::Next,
};

use super::{problem, routing};

/// Below this an answer fits one packet anyway, and the work would buy nothing.
const LEAST_BYTES: u64 = 1024;

/// Compresses the answer when the client takes it and it is worth it.
pub(super) async fn compress(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let wanted = negotiate(&request);
    // What GET would send is not known before it is made, so HEAD names no encoding and no length that would not hold.
    let head_only = request.method() == Method::HEAD;
    let mut answer = next.call(request).await?;
    let is_ours = is_compressible(answer.headers())
        && !answer.request().match_pattern().is_some_and(|template| routing::carries_content(&template));
    if !is_ours {
        return Ok(answer);
    }
    answer.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let large = matches!(answer.response().body().size(), BodySize::Sized(bytes) if bytes > LEAST_BYTES);
    let Some(encoding) = wanted.filter(|_| large && !head_only) else { return Ok(answer) };
    weaken_etag(answer.headers_mut());
    Ok(answer.map_body(|head, body| BoxBody::new(Encoder::response(encoding, head, body))))
}

/// The encoding that the client likes best of ours. A client that takes none of them, nor identity, gets identity: that
/// serves it better than a refusal.
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
    let is_ours = essence == "application/json" || essence == problem::MEDIA_TYPE || kind == prometheus::TEXT_FORMAT;
    is_ours && !headers.contains_key(header::CONTENT_ENCODING)
}

/// The compressed bytes are another representation of the same thing.
fn weaken_etag(headers: &mut HeaderMap) {
    let weak = headers
        .get(header::ETAG)
        .filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        .and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}
