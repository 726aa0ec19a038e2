//! Answers that hand over the delivery: a URL for the client, or an internal redirect for the nginx in front.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{self, HeaderName, HeaderValue},
};
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, ReceiptId, SessionId},
    ports::SignedUrl,
};
use serde::Serialize;

use super::{ContentHeaders, FOR_EVERY_PAGE};
use crate::http::{Problem, ProblemType, answer::no_store};

const ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
const ACCEL_LIMIT_RATE: HeaderName = HeaderName::from_static("x-accel-limit-rate");

#[derive(Serialize)]
struct DelegatedAnswer<'a> {
    delivery: Delivery<'a>,
    metadata: Metadata<'a>,
}

/// The request with which the client gets the content.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivery<'a> {
    method: &'static str,
    url: &'a str,
    expires_at: Timestamp,
    /// Header fields that it must carry.
    headers: BTreeMap<&'static str, String>,
}

/// The properties of the content, so that a client can check the bytes that it gets: no server on the way did.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    content_hash: ContentHash,
    size_bytes: u64,
    media_type: &'a str,
    name: &'a str,
    repr_digest: String,
    receipt_id: ReceiptId,
    session_id: SessionId,
    quota_tier: &'a str,
    charged_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_bytes: Option<u64>,
}

impl ContentHeaders {
    /// 200 with a URL of the whole content.
    pub(in crate::http) fn url(&self, signed: &SignedUrl) -> HttpResponse {
        let metadata = Metadata {
            content_hash: self.hash,
            size_bytes: self.size,
            media_type: &self.media_type,
            name: &self.name,
            repr_digest: self.repr_digest(),
            receipt_id: self.asked.receipt,
            session_id: self.session,
            quota_tier: &self.tier,
            charged_bytes: self.size,
            remaining_bytes: self.remaining,
        };
        let delivery =
            Delivery { method: "GET", url: &signed.url, expires_at: signed.expires_at, headers: BTreeMap::new() };
        self.for_one_client(HttpResponse::Ok()).json(DelegatedAnswer { delivery, metadata })
    }

    /// 302 to the URL.
    ///
    /// # Errors
    /// When the signer's answer is not a URL.
    pub(in crate::http) fn redirect(&self, signed: &SignedUrl) -> Result<HttpResponse, Problem> {
        let location = HeaderValue::try_from(signed.url.as_str())
            .map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?;
        Ok(self.for_one_client(HttpResponse::Found()).insert_header((header::LOCATION, location)).finish())
    }

    /// 200 without a body, which nginx fills at this many bytes per second.
    pub(in crate::http) fn internal(&self, signed: &SignedUrl, rate: Option<u64>) -> HttpResponse {
        let mut builder = self.build(None);
        builder.insert_header((ACCEL_REDIRECT, signed.url.as_str()));
        if let Some(rate) = rate {
            builder.insert_header((ACCEL_LIMIT_RATE, rate));
        }
        builder.finish()
    }

    /// A URL grants access: no cache may store it, and the page behind it must not see a referrer.
    fn for_one_client(&self, builder: HttpResponseBuilder) -> HttpResponseBuilder {
        let mut builder = no_store(builder);
        self.identify(&mut builder);
        builder.insert_header((header::REFERRER_POLICY, "no-referrer")).insert_header(FOR_EVERY_PAGE);
        builder
    }
}
