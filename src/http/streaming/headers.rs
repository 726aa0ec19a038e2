//! The header fields of content.

use std::time::SystemTime;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    body::{BodySize, BoxBody, MessageBody, SizedStream},
    http::{
        StatusCode,
        header::{self, ContentDisposition, DispositionType, HeaderName, HttpDate},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use penstock_actors::{
    content::delivery::Delivery,
    ids::{ContentHash, SessionId},
    ports::{Missing, PortError},
    quota::book::Grant,
};

use super::{StreamRequest, browsers, range::RangeAnswer};
use crate::http::Problem;

mod handed_over;

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Pages of every origin may embed content, also pages that are isolated from other origins
/// (`Cross-Origin-Embedder-Policy`): the receipt gives the right, not the page.
pub(super) const FOR_EVERY_PAGE: (HeaderName, &str) =
    (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");

/// The properties of a content that every answer about it carries.
pub(in crate::http) struct ContentHeaders {
    pub(super) size: u64,
    pub(super) media_type: String,
    /// When it was stored. Content never changes, but it may be removed and stored again.
    pub(super) stored_at: Timestamp,
    pub(super) hash: ContentHash,
    asked: StreamRequest,
    session: SessionId,
    tier: String,
    remaining: Option<u64>,
    name: String,
}

impl ContentHeaders {
    /// # Errors
    /// When the grant has no content, which cannot happen: that is checked before.
    pub(super) fn new(grant: &Grant, asked: &StreamRequest) -> Result<Self, Problem> {
        let view = &grant.view;
        let meta = view.content.as_ref().ok_or(PortError::NotFound(Missing::Content))?;
        Ok(Self {
            size: meta.size_bytes,
            media_type: meta.media_type.clone(),
            // An answer must not carry a modification date later than its own date (RFC 9110, section 8.8.2.1).
            stored_at: meta.stored_at.min(grant.started_at),
            hash: asked.hash,
            asked: *asked,
            // Without a session from the client, the stream gets an id of its own, for the logs.
            session: asked.session.named().unwrap_or_else(SessionId::random),
            tier: view.receipt.quota_tier.clone(),
            remaining: grant.remaining_bytes,
            name: view.asset_name.clone(),
        })
    }

    /// The fields that describe the content, in every answer.
    fn describe(&self, builder: &mut HttpResponseBuilder) {
        builder
            .insert_header((header::ETAG, format!("\"{}\"", self.hash)))
            .insert_header(header::LastModified(HttpDate::from(SystemTime::from(self.stored_at))))
            // A browser may store it, but must revalidate each time: the receipt may have ended, and without this a
            // cache would guess a lifetime.
            .insert_header((header::CACHE_CONTROL, "private, no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, browsers::security_policy(&self.media_type)))
            .insert_header(FOR_EVERY_PAGE)
            .insert_header((header::ACCEPT_RANGES, "bytes"))
            .insert_header((REPR_DIGEST, self.repr_digest()));
        self.identify(builder);
    }

    /// The fields that name the receipt, and what is left of its quota.
    fn identify(&self, builder: &mut HttpResponseBuilder) {
        builder
            .insert_header(("x-receipt-id", self.asked.receipt.to_string()))
            .insert_header(("x-session-id", self.session.to_string()))
            .insert_header(("x-quota-tier", self.tier.as_str()));
        if let Some(remaining) = self.remaining {
            builder.insert_header(("x-quota-remaining-bytes", remaining));
        }
    }

    fn repr_digest(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.hash.as_bytes()))
    }

    /// `Content-Disposition` for another server that delivers, at a host that may serve more than content.
    pub(in crate::http) fn disposition(&self) -> ContentDisposition {
        self.shown_if(browsers::only_shows(&self.media_type))
    }

    fn shown_if(&self, shown: bool) -> ContentDisposition {
        browsers::disposition(&self.name, if shown { DispositionType::Inline } else { DispositionType::Attachment })
    }

    /// 304.
    pub(super) fn not_modified(&self) -> HttpResponse {
        let mut builder = HttpResponse::NotModified();
        self.describe(&mut builder);
        builder.finish()
    }

    /// The head of a GET answer for the whole content. Ranges are for GET alone (RFC 9110, section 14.2).
    pub(super) fn head(&self) -> HttpResponse {
        self.build(None).body(LengthOnlyBody(self.size))
    }

    /// 200, or 206 with the ranges.
    pub(super) fn answer(&self, ranges: Option<&RangeAnswer>, body: SizedStream<Delivery>) -> HttpResponse {
        self.build(ranges).body(BoxBody::new(body))
    }

    fn build(&self, ranges: Option<&RangeAnswer>) -> HttpResponseBuilder {
        let status = if ranges.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut builder = HttpResponse::build(status);
        self.describe(&mut builder);
        builder.insert_header(self.shown_if(self.asked.among_content || browsers::only_shows(&self.media_type)));
        let media_type = ranges.and_then(RangeAnswer::multipart_type);
        builder.content_type(media_type.as_deref().unwrap_or(&self.media_type));
        if let Some(range) = ranges.and_then(|ranges| ranges.content_range(self.size)) {
            builder.insert_header((header::CONTENT_RANGE, range));
        }
        builder
    }
}

/// The body of a HEAD: declares its length and has no bytes.
struct LengthOnlyBody(u64);

impl MessageBody for LengthOnlyBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0)
    }

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<bytes::Bytes, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
}
