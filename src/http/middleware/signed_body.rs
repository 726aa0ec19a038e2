//! The bodies of signed requests: the signature covers a digest, and the bytes are compared with it as they arrive.
//!
//! A middleware puts the comparison around the body, so that no handler can forget it, whatever it reads the body with:
//! a body with another digest ends with an error. A handler that compares the digest itself, as uploads do on a thread
//! of their own, [claims](SignedBody::claim) the digest and saves the second hash. The body is not buffered.

use std::{
    cell::Cell,
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::{
    HttpMessage as _, HttpRequest,
    body::BoxBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::header::{self, HeaderMap},
    middleware::Next,
    web::Bytes,
};
use futures::Stream;
use penstock_actors::ids::ContentHash;
use sha2::{Digest as _, Sha256};

use crate::http::{Problem, ProblemType, credentials::is_signed_request, digest::sha256_in};

/// The signed digest.
#[derive(Clone)]
pub(in crate::http) struct SignedBody {
    /// Without a digest the body must be empty.
    signed: ContentHash,
    claimed: Rc<Cell<bool>>,
}

impl SignedBody {
    /// Checks what the head declares about the body.
    ///
    /// # Errors
    /// The reason: a digest that cannot be parsed, two different digests, or no digest for a body.
    pub(in crate::http) fn check_head(request: &HttpRequest) -> Result<(), &'static str> {
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH);
        let has_body =
            length.is_some_and(|length| length.as_bytes() != b"0") || headers.contains_key(header::TRANSFER_ENCODING);
        match declared(headers) {
            Err(_) => {
                Err("Content-Digest and Repr-Digest must each be of the form sha-256=:BASE64:, with the same digest")
            }
            Ok(None) if has_body => Err("a body that is signed comes with a Content-Digest or Repr-Digest of sha-256"),
            // Otherwise the body would have bypassed the comparison.
            Ok(_) if !request.extensions().contains::<Self>() => Err("the body cannot be compared with its digest"),
            Ok(_) => Ok(()),
        }
    }

    /// Returns the digest for a caller that compares the body itself; `None` when the request is not signed.
    pub(in crate::http) fn claim(request: &HttpRequest) -> Option<ContentHash> {
        let body = request.extensions().get::<Self>()?.clone();
        body.claimed.set(true);
        Some(body.signed)
    }
}

/// The digest in the fields, under either name.
fn declared(headers: &HeaderMap) -> Result<Option<ContentHash>, Problem> {
    let (content, representation) = (sha256_in(headers, "content-digest")?, sha256_in(headers, "repr-digest")?);
    match (content, representation) {
        (Some(one), Some(other)) if one != other => Err(ProblemType::MalformedRequest.into()),
        (content, representation) => Ok(content.or(representation)),
    }
}

/// Compares the body of a request that claims to be signed with its digest. The extractors verify the signature; they
/// also refuse a head whose digest cannot be parsed.
pub(in crate::http) async fn compare_signed_body(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if is_signed_request(request.headers()) {
        let signed = declared(request.headers()).ok().flatten();
        let signed = signed.unwrap_or_else(|| ContentHash::from_bytes(Sha256::digest([]).into()));
        let claimed = Rc::new(Cell::new(false));
        request.extensions_mut().insert(SignedBody { signed, claimed: Rc::clone(&claimed) });
        let inner = request.take_payload();
        let compared = CheckedBody { inner, hasher: Some(Sha256::new()), signed, claimed };
        request.set_payload(Payload::Stream { payload: Box::pin(compared) });
    }
    next.call(request).await
}

/// A body that ends with an error when it is not the signed one.
struct CheckedBody {
    inner: Payload,
    /// `None` after the end.
    hasher: Option<Sha256>,
    signed: ContentHash,
    claimed: Rc<Cell<bool>>,
}

impl Stream for CheckedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let part = ready!(Pin::new(&mut this.inner).poll_next(cx));
        match (part, &mut this.hasher) {
            (Some(Ok(part)), Some(hasher)) => {
                if !this.claimed.get() {
                    hasher.update(&part);
                }
                Poll::Ready(Some(Ok(part)))
            }
            (None, hasher) => {
                let actual = hasher.take().filter(|_| !this.claimed.get());
                let actual = actual.map(|hasher| ContentHash::from_bytes(hasher.finalize().into()));
                let other = actual.filter(|actual| *actual != this.signed);
                Poll::Ready(other.map(|actual| {
                    let other = BodyMismatch { signed: this.signed, actual };
                    Err(PayloadError::Io(io::Error::other(other)))
                }))
            }
            (part, _) => Poll::Ready(part),
        }
    }
}

/// The body is not the signed one.
#[derive(Debug)]
struct BodyMismatch {
    signed: ContentHash,
    actual: ContentHash,
}

impl fmt::Display for BodyMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the digest {} was signed, but the body has {}", self.signed, self.actual)
    }
}

impl std::error::Error for BodyMismatch {}

/// The problem for a body that could not be read to its end.
pub(in crate::http) fn unreadable(error: &PayloadError) -> Problem {
    if let PayloadError::Io(io) = error
        && let Some(other) = io.get_ref().and_then(|inner| inner.downcast_ref::<BodyMismatch>())
    {
        return Problem::new(ProblemType::DigestMismatch)
            .with("expected", other.signed.to_string())
            .with("actual", other.actual.to_string());
    }
    Problem::new(ProblemType::UploadIncomplete).caused_by(error)
}
