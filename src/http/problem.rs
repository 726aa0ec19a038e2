//! Errors for clients: problem documents (RFC 9457), and never an internal message.
//!
//! A [`Problem`] has two parts. Its type, detail and members go to the client. Its cause goes to the log: the access
//! log finds it on the answer and writes it with the request id, so no other place logs a failed request.

use std::{borrow::Cow, fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    body::{BodySize, BoxBody, MessageBody as _},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    middleware::Next,
};
use penstock_actors::{flow::fairness::FairAdmission, model::Client};
use serde_json::{Map, Value};

use crate::http_server::{client_socket::RefusalText, connection_limit::ConnectionLimit};

mod catalogue;
mod refusals;

pub use catalogue::{ProblemType, Retry};
pub use refusals::Violation;
pub(super) use refusals::{blocked_by, unreadable};

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document under construction.
pub struct Problem {
    kind: ProblemType,
    // Boxed: a problem is the rare arm of every handler's `Result`, and must not make the common one large.
    parts: Box<Parts>,
}

#[derive(Default)]
struct Parts {
    detail: Option<Cow<'static, str>>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of this type; it says when to retry as the catalogue does.
    pub fn new(kind: ProblemType) -> Self {
        Self { kind, parts: Box::new(Parts { retry_after: kind.retry_after(), ..Parts::default() }) }
    }

    /// A request that cannot be read: `malformed-request`, with the reason.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemType::MalformedRequest).detail(detail)
    }

    /// What is wrong with this request, in a sentence for the client's developer.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.parts.detail = Some(detail.into());
        self
    }

    /// Adds an extension member, such as `limit` or `window`.
    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.parts.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a header field to the answer, such as `Content-Range` to a 416.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.parts.headers.push((name, value));
        self
    }

    /// When the same request may succeed, where this refusal knows better than the catalogue.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.parts.retry_after = Some(after);
        self
    }

    /// The cause for the log. Clients never see it.
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.parts.cause = Some(cause.to_string());
        self
    }

    pub fn kind(&self) -> ProblemType {
        self.kind
    }

    pub fn cause(&self) -> Option<&str> {
        self.parts.cause.as_deref()
    }

    /// The member `retryAfter` and the header `Retry-After`: whole seconds, at least one, rounded up so that no client
    /// retries too early.
    fn retry_seconds(&self) -> Option<u64> {
        let after = self.parts.retry_after?;
        Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1))
    }

    /// The whole answer as it stands on the wire, for a connection that no application serves, and that ends with it.
    pub fn on_the_wire(&self) -> Vec<u8> {
        let (status, body) = (self.kind.status(), self.document().to_string());
        let retry_after = self.retry_seconds().map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n{retry_after}cache-control: no-store\r\n\
             x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }

    fn document(&self) -> Value {
        let mut document = self.parts.members.clone();
        if let Some(seconds) = self.retry_seconds() {
            document.insert("retryAfter".into(), seconds.into());
        }
        document.insert("type".into(), self.kind.urn().into());
        document.insert("title".into(), self.kind.title().into());
        document.insert("status".into(), self.kind.status().as_u16().into());
        if let Some(detail) = &self.parts.detail {
            document.insert("detail".into(), detail.as_ref().into());
        }
        Value::Object(document)
    }
}

impl From<ProblemType> for Problem {
    fn from(kind: ProblemType) -> Self {
        Self::new(kind)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem").field("document", &self.document()).field("cause", &self.parts.cause).finish()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        self.parts.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.kind.status());
        answer.insert_header((header::CACHE_CONTROL, "no-store"));
        if matches!(self.kind, ProblemType::Unauthorized | ProblemType::SignatureRefused) {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(seconds) = self.retry_seconds() {
            answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        for (name, value) in &self.parts.headers {
            answer.insert_header((name.clone(), value.clone()));
        }
        answer.content_type(MEDIA_TYPE).body(self.document().to_string())
    }
}

/// The bound on connections, with the answer for a client beyond it.
pub fn connection_limit(places: FairAdmission<Client>) -> ConnectionLimit {
    let full = Problem::new(ProblemType::Overloaded)
        .detail("this node serves as many connections as it may, or as many of this address");
    ConnectionLimit::new(places, full.on_the_wire())
}

/// The document for a head that the server refuses before a request begins: it is no HTTP, too large, or too slow.
pub fn of_unread_head(status: u16) -> Option<RefusalText> {
    let problem = match StatusCode::from_u16(status).ok()? {
        StatusCode::BAD_REQUEST => {
            Problem::malformed("the head of the request is not HTTP/1.1, with CR LF at the end of each line")
        }
        // An offer, which has no body (BRC-121). The server itself demands no payment.
        StatusCode::PAYMENT_REQUIRED => return None,
        status if status.is_client_error() => ProblemType::of_status(status).into(),
        _ => return None,
    };
    Some(RefusalText { media_type: MEDIA_TYPE, body: problem.document().to_string() })
}

/// The middleware that also turns refusals by the framework (an unknown route, a method that a resource does not have,
/// an extractor's error) into problem documents. The framework's texts are dropped, because they may quote internals.
pub async fn document_refusals(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let answer = next.call(request).await?;
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() || is_ours(&answer) {
        return Ok(answer);
    }
    let mut problem = Problem::new(ProblemType::of_status(status));
    if let Some(error) = answer.response().error() {
        problem = problem.caused_by(error);
    }
    if let Some(methods) = answer.headers().get(header::ALLOW) {
        problem = problem.header(header::ALLOW, methods.clone());
    }
    Ok(answer.into_response(HttpResponse::from_error(problem)))
}

/// A handler refuses with a [`Problem`] or with a body of its own. A refusal by the framework has another type of
/// error, or no body at all.
fn is_ours(answer: &ServiceResponse) -> bool {
    // The framework demands no payment. An offer has no body (BRC-121).
    if answer.status() == StatusCode::PAYMENT_REQUIRED {
        return true;
    }
    match answer.response().error() {
        Some(error) => error.as_error::<Problem>().is_some(),
        None => !matches!(answer.response().body().size(), BodySize::None | BodySize::Sized(0)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use serde_json::json;

    use super::*;

    async fn body(problem: &Problem) -> Value {
        let bytes = to_bytes(problem.error_response().into_body()).await.expect("a body in memory");
        serde_json::from_slice(&bytes).expect("a problem is JSON")
    }

    #[actix_web::test]
    async fn a_problem_says_its_type_and_members_but_never_its_cause() {
        let problem = Problem::new(ProblemType::QuotaExceeded)
            .detail("the hour has 10 bytes left")
            .with("window", "hour")
            .retry_after(Duration::from_millis(1500))
            .caused_by("password=hunter2");
        let answer = problem.error_response();
        assert_eq!(answer.headers().get(header::RETRY_AFTER).map(HeaderValue::as_bytes), Some(&b"2"[..]));
        assert_eq!(
            body(&problem).await,
            json!({
                "type": "urn:penstock:problem:quota-exceeded",
                "title": ProblemType::QuotaExceeded.title(),
                "status": 429,
                "detail": "the hour has 10 bytes left",
                "window": "hour",
                "retryAfter": 2,
            })
        );
    }
}
