//! JSON bodies: read by the handler when it is ready for them, parsed with the path of a fault, validated as a whole.
//!
//! The framework's own JSON extractor reads the body while the other extractors still run; this one waits, so that a call
//! without a valid key never gets a byte of its body read.

use std::{marker::PhantomData, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header,
    web::{self, BytesMut},
};
use futures::{StreamExt as _, future::LocalBoxFuture};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::{
    Problem, ProblemType,
    problem::Violation,
    signed_body::unreadable,
    validation::{Validate, Violations},
    words,
};

/// The largest JSON body. The largest that makes sense is an asset with 8 KiB of description and 32 KiB of facts; the rest
/// is room for escapes, which can make one byte six.
const JSON_BYTES: usize = 256 * 1024;

/// How long a JSON body may take: 256 KiB in this time is 26 KB/s, less than any link that could stream.
const JSON_DEADLINE: Duration = Duration::from_secs(10);

/// How the parser tells that values are nested deeper than the 128 levels that it follows.
const TOO_DEEP: &str = "recursion limit exceeded";

/// How it tells that a number is beyond all that it can hold.
const TOO_LARGE: &str = "number out of range";

/// Bytes of a path that goes as deep as the parser.
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
    /// A problem that says what is wrong with the body; one with all violations when values break rules.
    pub async fn read(self) -> Result<T, Problem> {
        check_media_type(&self.request)?;
        let bytes = tokio::time::timeout(JSON_DEADLINE, collect(self.payload))
            .await
            .map_err(|_| Problem::from(ProblemType::RequestTimeout))??;
        let value: T = parse(&bytes)?;
        let mut violations = Violations::default();
        value.validate(&mut violations);
        violations.into_result()?;
        Ok(value)
    }
}

/// A body without a media type is taken for JSON; one that says something else is refused, so that a form from a browser
/// is never mistaken for a call.
pub(super) fn check_media_type(request: &HttpRequest) -> Result<(), Problem> {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(ProblemType::UnsupportedMediaType).detail("send the body as application/json"))
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

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Every body is an object of plain members. A parser takes the entries of a list for the members of a type in the order of its
    // source, of which a client knows nothing.
    if bytes.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| unreadable_json(&error))?;
        return Err(vec![Violation { path: String::new(), detail: "must be an object".into() }].into());
    }
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let told = inner.to_string();
        let wrong = |detail: String| {
            // The body itself has no name.
            let path = if path == "." { "" } else { &path[..path.floor_char_boundary(PATH_BYTES)] };
            Problem::from(vec![Violation { path: path.to_owned(), detail: detail.into() }])
        };
        if inner.is_data() {
            return wrong(words::of_fault(&told));
        }
        // Well-formed as far as it was read, and the place says more than a column of the text.
        if told.starts_with(TOO_DEEP) {
            return wrong("is nested too deep".into());
        }
        if told.starts_with(TOO_LARGE) {
            return wrong(words::NO_NUMBER.into());
        }
        // To the parser a value that is no word of an enumeration is a mistake of writing. Reading it as nothing in particular tells.
        match serde_json::from_slice::<Value>(bytes) {
            Ok(_) => wrong(words::NO_WORD.into()),
            Err(error) => unreadable_json(&error),
        }
    })?;
    text.end().map_err(|error| unreadable_json(&error))?;
    Ok(value)
}

/// What is no JSON, with the place.
fn unreadable_json(error: &serde_json::Error) -> Problem {
    if error.is_eof() {
        return Problem::malformed("the body is not JSON: it ends too early");
    }
    let (line, column) = (error.line(), error.column());
    Problem::malformed(format!("the body is not JSON, or goes on after it: see line {line}, column {column}"))
}
