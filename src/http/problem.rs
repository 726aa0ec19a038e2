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
use penstock_actors::{
    ids::InvalidId,
    ports::{Missing, PortError},
};
use serde_json::{Map, Value, json};

mod catalogue;

pub use catalogue::ProblemType;

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// When a client should retry after the failure of a dependency that gives no time itself: long enough for the failover
/// of a connection pool, short enough for a person who waits.
const DEPENDENCY_RETRY: Duration = Duration::from_secs(2);

/// When to retry after the storage was full: a person or a sweep frees space, and not within seconds.
const STORAGE_RETRY: Duration = Duration::from_secs(60);

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
}

impl Problem {
    pub fn new(kind: ProblemType) -> Self {
        Self { kind, parts: Box::default() }
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

    /// When the same request may succeed: the member `retryAfter` and the header `Retry-After`, in whole seconds, at
    /// least one, rounded up so that no client retries too early.
    pub fn retry_after(self, after: Duration) -> Self {
        let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        let seconds = whole.max(1);
        self.with("retryAfter", seconds).header(header::RETRY_AFTER, HeaderValue::from(seconds))
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

    fn document(&self) -> Value {
        let mut document = self.parts.members.clone();
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
        for (name, value) in &self.parts.headers {
            answer.insert_header((name.clone(), value.clone()));
        }
        answer.content_type(MEDIA_TYPE).body(self.document().to_string())
    }
}

/// The problem for the failure of a port that the client could not have avoided.
impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        Self::from(&error)
    }
}

impl From<&PortError> for Problem {
    fn from(error: &PortError) -> Self {
        let problem = match error {
            PortError::Unavailable { retry_after, .. } => {
                Self::new(ProblemType::DependencyUnavailable).retry_after(retry_after.unwrap_or(DEPENDENCY_RETRY))
            }
            PortError::Fenced => Self::new(ProblemType::DependencyUnavailable).retry_after(DEPENDENCY_RETRY),
            PortError::Full(_) => Self::new(ProblemType::StorageFull).retry_after(STORAGE_RETRY),
            PortError::Corrupt(_) => Self::new(ProblemType::ContentUnavailable).retry_after(STORAGE_RETRY),
            PortError::Rejected { .. } => Self::new(ProblemType::Internal),
            PortError::NotFound(Missing::Asset) => Self::new(ProblemType::UnknownAsset),
            PortError::NotFound(Missing::QuotaTier) => Self::new(ProblemType::UnknownTier),
            PortError::NotFound(_) => Self::new(ProblemType::NotFound),
        };
        problem.caused_by(error)
    }
}

/// The text of an id cannot be parsed.
impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::malformed(error.to_string())
    }
}

/// One rule that a value breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the value, as in `policyMeta.license` or `tags[3]`.
    pub path: String,
    pub detail: Cow<'static, str>,
}

/// All rules that a request breaks, at once.
impl From<Vec<Violation>> for Problem {
    fn from(violations: Vec<Violation>) -> Self {
        let errors: Vec<_> =
            violations.iter().map(|broken| json!({ "path": broken.path, "detail": broken.detail })).collect();
        Self::new(ProblemType::ValidationFailed).with("errors", errors)
    }
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
    match answer.response().error() {
        Some(error) => error.as_error::<Problem>().is_some(),
        None => !matches!(answer.response().body().size(), BodySize::None | BodySize::Sized(0)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

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

    #[test]
    fn what_may_pass_tells_when_to_come_back() {
        let errors = [
            (PortError::unavailable("database", "refused"), ProblemType::DependencyUnavailable, true),
            (PortError::Fenced, ProblemType::DependencyUnavailable, true),
            (PortError::Full("blob store"), ProblemType::StorageFull, true),
            (PortError::Corrupt("short".into()), ProblemType::ContentUnavailable, true),
            (PortError::rejected("database", "constraint"), ProblemType::Internal, false),
            (PortError::NotFound(Missing::Asset), ProblemType::UnknownAsset, false),
            (PortError::NotFound(Missing::QuotaTier), ProblemType::UnknownTier, false),
            (PortError::NotFound(Missing::Blob), ProblemType::NotFound, false),
        ];
        for (error, kind, retries) in errors {
            let problem = Problem::from(&error);
            assert_eq!(problem.kind(), kind, "{error}");
            assert_eq!(problem.error_response().headers().contains_key(header::RETRY_AFTER), retries, "{error}");
            assert_eq!(problem.cause(), Some(error.to_string().as_str()));
        }
    }
}
