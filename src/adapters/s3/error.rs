//! Failures of S3 in one type for both clients.

use std::{error::Error, fmt, time::Duration};

use penstock_actors::ports::{Missing, PortError};

use super::StorageTier;

/// The name of this store in errors.
pub(super) const STORE: &str = "S3";

/// The length of an error's text in a log line.
const LONGEST_TEXT: usize = 300;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct S3Failure {
    pub(super) kind: S3FailureKind,
    text: String,
    /// When S3 wants the request to be repeated.
    pub(super) retry_after: Option<Duration>,
}

/// The kind of a failure, which decides how to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum S3FailureKind {
    /// There is no such object or upload.
    NotFound,
    /// There is no such bucket: an operator must fix that.
    NoBucket,
    /// The object exists, or is not in the state that a conditional write expected.
    Precondition,
    /// The range begins after the end of the object, which is shorter than expected.
    Range,
    /// The credentials do not permit it, or there are none: an operator must fix that.
    Denied,
    /// The storage is full.
    Full,
    /// The storage does not support the request.
    Unsupported,
    /// Refused, and the same request will be refused again.
    Refused,
    /// Too many requests at the moment.
    Throttled,
    /// A 5xx answer, a connection that failed or broke, a body that was cut short or is malformed.
    Broken,
    /// No answer, or not the next bytes of one, in time.
    Silent,
}

impl S3Failure {
    pub(super) fn new(kind: S3FailureKind, text: impl fmt::Display) -> Self {
        let mut text = text.to_string();
        if let Some((at, _)) = text.char_indices().nth(LONGEST_TEXT) {
            text.truncate(at);
        }
        Self { kind, text, retry_after: None }
    }

    /// From an error below HTTP, with its causes.
    pub(super) fn broken(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::new(S3FailureKind::Broken, text)
    }

    pub(super) fn silent(patience: Duration) -> Self {
        Self::new(S3FailureKind::Silent, format_args!("no answer within {}", humantime::format_duration(patience)))
    }

    /// From an answer that is not a success. S3 gives the reason by a code in an XML document; an answer to HEAD has no
    /// body, and a proxy in between may answer in any form.
    pub(super) fn answered(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let code = element(&body, "Code").unwrap_or_default();
        let kind = match (status, code) {
            (_, "NoSuchBucket") => S3FailureKind::NoBucket,
            (_, "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ThrottlingException" | "RequestLimitExceeded")
            | (429, _) => S3FailureKind::Throttled,
            (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") | (507, _) => {
                S3FailureKind::Full
            }
            // The request arrived too slowly, or at the same time as another write of the same key.
            (408, _) | (_, "RequestTimeout" | "ConditionalRequestConflict" | "OperationAborted") => {
                S3FailureKind::Broken
            }
            (401 | 403, _) => S3FailureKind::Denied,
            (404, _) => S3FailureKind::NotFound,
            (409 | 412 | 304, _) => S3FailureKind::Precondition,
            (416, _) => S3FailureKind::Range,
            (501, _) => S3FailureKind::Unsupported,
            (500.., _) => S3FailureKind::Broken,
            // A completion may fail although its answer began with status 200.
            (200..=299, "InternalError") => S3FailureKind::Broken,
            _ => S3FailureKind::Refused,
        };
        let message = element(&body, "Message").unwrap_or_default();
        Self {
            retry_after: retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs),
            ..Self::new(kind, format_args!("{status} {code} {message}").to_string().trim_end())
        }
    }

    /// Adds the tier whose bucket failed.
    pub(super) fn of(self, tier: StorageTier) -> Self {
        Self { text: format!("the {tier} bucket: {}", self.text), ..self }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self.kind, S3FailureKind::Throttled | S3FailureKind::Broken | S3FailureKind::Silent)
    }

    /// The label in metrics.
    pub(super) const fn outcome(&self) -> &'static str {
        match self.kind {
            S3FailureKind::NotFound => "not_found",
            S3FailureKind::Precondition => "precondition",
            S3FailureKind::Throttled => "throttled",
            S3FailureKind::Silent => "timeout",
            S3FailureKind::Broken => "error",
            S3FailureKind::NoBucket
            | S3FailureKind::Range
            | S3FailureKind::Denied
            | S3FailureKind::Full
            | S3FailureKind::Unsupported
            | S3FailureKind::Refused => "refused",
        }
    }
}

/// What a caller of the port may conclude. A missing bucket and wrong credentials are for an operator to fix, not for
/// the client: to the client, the storage is unavailable.
impl From<S3Failure> for PortError {
    fn from(failure: S3Failure) -> Self {
        match failure.kind {
            S3FailureKind::NotFound => Self::NotFound(Missing::Blob),
            S3FailureKind::Range => Self::Corrupt(failure.text),
            S3FailureKind::Full => Self::Full(STORE),
            S3FailureKind::Refused | S3FailureKind::Unsupported => Self::rejected(STORE, failure),
            S3FailureKind::NoBucket
            | S3FailureKind::Denied
            | S3FailureKind::Precondition
            | S3FailureKind::Throttled
            | S3FailureKind::Broken
            | S3FailureKind::Silent => {
                Self::Unavailable { dependency: STORE, retry_after: failure.retry_after, source: Box::new(failure) }
            }
        }
    }
}

/// The text of the first element of this name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> S3Failure {
        S3Failure::answered(
            status,
            None,
            format!("<?xml?><Error><Code>{code}</Code><Message>why</Message></Error>").as_bytes(),
        )
    }

    #[test]
    fn transient_errors_are_distinguished_from_permanent_ones() {
        for (status, code, kind, passes) in [
            (500, "InternalError", S3FailureKind::Broken, true),
            (200, "InternalError", S3FailureKind::Broken, true),
            (503, "SlowDown", S3FailureKind::Throttled, true),
            (503, "", S3FailureKind::Broken, true),
            (429, "", S3FailureKind::Throttled, true),
            (408, "", S3FailureKind::Broken, true),
            (400, "RequestTimeout", S3FailureKind::Broken, true),
            (409, "ConditionalRequestConflict", S3FailureKind::Broken, true),
            (404, "NoSuchKey", S3FailureKind::NotFound, false),
            (404, "NoSuchUpload", S3FailureKind::NotFound, false),
            (404, "NoSuchBucket", S3FailureKind::NoBucket, false),
            (403, "SignatureDoesNotMatch", S3FailureKind::Denied, false),
            (412, "PreconditionFailed", S3FailureKind::Precondition, false),
            (416, "InvalidRange", S3FailureKind::Range, false),
            (501, "NotImplemented", S3FailureKind::Unsupported, false),
            (507, "XMinioStorageFull", S3FailureKind::Full, false),
            (403, "QuotaExceeded", S3FailureKind::Full, false),
            (400, "InvalidPart", S3FailureKind::Refused, false),
        ] {
            let failure = answered(status, code);
            assert_eq!((failure.kind, failure.is_passing()), (kind, passes), "{status} {code}");
        }
    }

    #[test]
    fn an_answer_in_any_form_is_understood_as_far_as_it_goes() {
        assert_eq!(S3Failure::answered(404, None, b"").kind, S3FailureKind::NotFound);
        let failure = S3Failure::answered(502, Some("7"), "<html>\u{fffd}".repeat(1000).as_bytes());
        assert_eq!((failure.kind, failure.retry_after), (S3FailureKind::Broken, Some(Duration::from_secs(7))));
        assert_eq!(failure.to_string(), "502");
        assert_eq!(answered(403, "AccessDenied").to_string(), "403 AccessDenied why");
        assert!(S3Failure::new(S3FailureKind::Refused, "é".repeat(1000)).to_string().chars().count() <= LONGEST_TEXT);
    }

    #[test]
    fn a_caller_learns_what_it_may_conclude() {
        assert!(matches!(PortError::from(answered(404, "NoSuchKey")), PortError::NotFound(Missing::Blob)));
        assert!(matches!(PortError::from(answered(416, "")), PortError::Corrupt(_)));
        assert!(matches!(PortError::from(answered(507, "")), PortError::Full(STORE)));
        assert!(matches!(PortError::from(answered(400, "")), PortError::Rejected { .. }));
        let slow = S3Failure::answered(503, Some("3"), b"<Code>SlowDown</Code>");
        assert!(matches!(
            PortError::from(slow),
            PortError::Unavailable { dependency: STORE, retry_after: Some(after), .. } if after.as_secs() == 3
        ));
        for (status, code) in [(404, "NoSuchBucket"), (403, "AccessDenied"), (500, "")] {
            assert!(
                matches!(PortError::from(answered(status, code)), PortError::Unavailable { .. }),
                "{status} {code}"
            );
        }
    }
}
