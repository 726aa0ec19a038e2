//! JSON bodies: read by the handler when it is ready for them, parsed with the path of an error, validated as a whole.
//!
//! The framework's JSON extractor reads the body while other extractors still run; this one waits, so that no byte of
//! the body of a call without a valid key is read.

use std::{marker::PhantomData, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderValue},
    web::{self, BytesMut},
};
use futures::{StreamExt as _, future::LocalBoxFuture};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::{
    Problem, ProblemType,
    middleware::signed_body::unreadable,
    problem::Violation,
    validation::{Validate, Violations},
};
use crate::words;

/// The largest JSON body. The largest sensible one is an asset with 8 KiB of description and 32 KiB of metadata; the
/// rest is room for escapes, which can make six bytes of one.
const JSON_BYTES: usize = 256 * 1024;

/// How long a JSON body may take: 256 KiB in this time are 26 KB/s, less than any link that could stream.
const JSON_DEADLINE: Duration = Duration::from_secs(10);

/// The longest path in an error, in bytes: enough for the 128 levels that the parser follows.
const PATH_BYTES: usize = 256;

/// A JSON body that has not been read yet.
pub struct JsonBody<T> {
    request: HttpRequest,
    payload: web::Payload,
    kind: PhantomData<T>,
}

impl<T> FromRequest for JsonBody<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = web::Payload::from_request(&request, payload);
        Box::pin(async move { Ok(Self { request, payload: payload.await?, kind: PhantomData }) })
    }
}

impl<T: DeserializeOwned + Validate> JsonBody<T> {
    /// Reads, parses and validates the body.
    ///
    /// # Errors
    /// A problem that describes the fault of the body, or one with all violations when values break rules.
    pub async fn read(self) -> Result<T, Problem> {
        Self::of(&self.bytes().await?)
    }

    /// As [`read`](Self::read), for a call of which every member may be left out: it may have no body at all.
    ///
    /// # Errors
    /// As those of [`read`](Self::read).
    pub async fn read_or_default(self) -> Result<T, Problem>
    where
        T: Default,
    {
        let bytes = self.bytes().await?;
        if bytes.is_empty() { Ok(T::default()) } else { Self::of(&bytes) }
    }

    async fn bytes(self) -> Result<BytesMut, Problem> {
        check_coding(&self.request)?;
        check_media_type(&self.request)?;
        tokio::time::timeout(JSON_DEADLINE, collect(self.payload))
            .await
            .map_err(|_| Problem::from(ProblemType::RequestTimeout))?
    }

    fn of(bytes: &[u8]) -> Result<T, Problem> {
        let value: T = parse(bytes)?;
        let mut violations = Violations::default();
        value.validate(&mut violations);
        violations.into_result()?;
        Ok(value)
    }
}

/// A body without a media type is taken for JSON; another media type is refused, so that a browser's form is never
/// mistaken for a call.
pub(super) fn check_media_type(request: &HttpRequest) -> Result<(), Problem> {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(ProblemType::UnsupportedMediaType).detail("send the body as application/json"))
}

/// A body is taken as it is: nothing is unpacked, so a small body cannot become a large one.
pub(super) fn check_coding(request: &HttpRequest) -> Result<(), Problem> {
    let is_plain = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if request.headers().get_all(header::CONTENT_ENCODING).all(is_plain) {
        return Ok(());
    }
    // RFC 9110, section 15.5.16.
    Err(Problem::new(ProblemType::UnsupportedMediaType)
        .detail("send the body without a content coding: it is taken as it is")
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

async fn collect(mut payload: web::Payload) -> Result<BytesMut, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(part) = payload.next().await {
        let part = part.map_err(|error| unreadable(&error))?;
        if bytes.len() + part.len() > JSON_BYTES {
            return Err(Problem::new(ProblemType::UploadTooLarge).with("limit", JSON_BYTES));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Every body is an object of named members. A parser would accept a list and assign its entries to the members in
    // the order of the source code, which a client cannot know.
    if bytes.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| unreadable_json(&error))?;
        return Err(vec![Violation { path: String::new(), detail: "must be an object".into() }].into());
    }
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let wrong = |detail: String| {
            // The body itself has no path.
            let path = if path == "." { "" } else { &path[..path.floor_char_boundary(PATH_BYTES)] };
            Problem::from(vec![Violation { path: path.to_owned(), detail: detail.into() }])
        };
        if inner.is_data() {
            return wrong(words::of_fault(&inner.to_string()));
        }
        if let Some(limit) = words::of_limit(&inner) {
            return wrong(limit.to_owned());
        }
        // The parser reports an unknown word of an enumeration as a syntax error. Parsing it as any value shows that it
        // is not.
        match serde_json::from_slice::<Value>(bytes) {
            Ok(_) => wrong(words::NO_WORD.into()),
            Err(error) => unreadable_json(&error),
        }
    })?;
    text.end().map_err(|error| unreadable_json(&error))?;
    Ok(value)
}

/// A text that is not JSON, with the place.
pub(super) fn unreadable_json(error: &serde_json::Error) -> Problem {
    Problem::malformed(format!("the body {}", words::of_json(error)))
}

/// A value that may be omitted: null means the same, as everywhere in this API.
///
/// # Errors
/// The errors of the value.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
