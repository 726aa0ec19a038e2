//! What S3 says when it does not do what it was asked, in one type for all clients.

use std::{error::Error, fmt, time::Duration};

use penstock_actors::ports::PortError;

use super::Tier;

/// How the store calls itself in errors.
pub(super) const STORE: &str = "S3";

/// Of an error's text, what a log line needs.
const LONGEST_TEXT: usize = 300;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) kind: Kind,
    text: String,
    /// When S3 wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

/// What can be concluded from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no such object or upload.
    NotFound,
    /// There is no such bucket: for an operator to put right.
    NoBucket,
    /// The object is there, or is not what a conditional write expected.
    Precondition,
    /// The range begins after the end of the object, which is shorter than it should be.
    Range,
    /// The credentials do not allow it, or there are none: for an operator to put right.
    Denied,
    /// No room in the storage.
    Full,
    /// The storage does not know what was asked.
    Unsupported,
    /// Refused, and it will be refused again.
    Refused,
    /// Too much is asked at the moment.
    Throttled,
    /// An answer 5xx, a connection that could not be made or broke, a body that was cut short or makes no sense.
    Broken,
    /// No answer, or not the next bytes of one, in time.
    Silent,
}

impl Failure {
    pub(super) fn new(kind: Kind, text: impl fmt::Display) -> Self {
        let mut text = text.to_string();
        if let Some((at, _)) = text.char_indices().nth(LONGEST_TEXT) {
            text.truncate(at);
        }
        Self { kind, text, retry_after: None }
    }

    /// From an error below HTTP, with what caused it.
    pub(super) fn broken(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::new(Kind::Broken, text)
    }

    pub(super) fn silent(patience: Duration) -> Self {
        Self::new(Kind::Silent, format_args!("no answer within {}", humantime::format_duration(patience)))
    }

    /// From an answer that is not a success. S3 says what is wrong by a code in an XML document; an answer to HEAD has no
    /// body, and what stands between may answer in any form.
    pub(super) fn answered(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let code = element(&body, "Code").unwrap_or_default();
        let kind = match (status, code) {
            (_, "NoSuchBucket") => Kind::NoBucket,
            (_, "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ThrottlingException" | "RequestLimitExceeded")
            | (429, _) => Kind::Throttled,
            (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") | (507, _) => Kind::Full,
            // The request arrived too slowly, or at the same time as another write of the same key.
            (408, _) | (_, "RequestTimeout" | "ConditionalRequestConflict" | "OperationAborted") => Kind::Broken,
            (401 | 403, _) => Kind::Denied,
            (404, _) => Kind::NotFound,
            (409 | 412 | 304, _) => Kind::Precondition,
            (416, _) => Kind::Range,
            (501, _) => Kind::Unsupported,
            (500.., _) => Kind::Broken,
            // Complete may fail with an answer that began with 200.
            (200..=299, "InternalError") => Kind::Broken,
            _ => Kind::Refused,
        };
        let message = element(&body, "Message").unwrap_or_default();
        Self {
            retry_after: retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs),
            ..Self::new(kind, format_args!("{status} {code} {message}").to_string().trim_end())
        }
    }

    /// With the tier whose bucket said so.
    pub(super) fn of(self, tier: Tier) -> Self {
        Self { text: format!("the {tier} bucket: {}", self.text), ..self }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Broken | Kind::Silent)
    }

    /// As it is counted.
    pub(super) const fn outcome(&self) -> &'static str {
        match self.kind {
            Kind::NotFound => "not_found",
            Kind::Precondition => "precondition",
            Kind::Throttled => "throttled",
            Kind::Silent => "timeout",
            Kind::Broken => "error",
            Kind::NoBucket | Kind::Range | Kind::Denied | Kind::Full | Kind::Unsupported | Kind::Refused => "refused",
        }
    }
}

/// What a caller of the port may conclude. A bucket that is missing and credentials that are wrong are put right by an
/// operator, not by the client: to it, the storage is unavailable.
impl From<Failure> for PortError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::NotFound => Self::NotFound("blob"),
            Kind::Range => Self::Corrupt(failure.text),
            Kind::Full => Self::Full(STORE),
            Kind::Refused | Kind::Unsupported => Self::rejected(STORE, failure),
            Kind::NoBucket | Kind::Denied | Kind::Precondition | Kind::Throttled | Kind::Broken | Kind::Silent => {
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

    fn answered(status: u16, code: &str) -> Failure {
        Failure::answered(
            status,
            None,
            format!("<?xml?><Error><Code>{code}</Code><Message>why</Message></Error>").as_bytes(),
        )
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for (status, code, kind, passes) in [
            (500, "InternalError", Kind::Broken, true),
            (200, "InternalError", Kind::Broken, true),
            (503, "SlowDown", Kind::Throttled, true),
            (503, "", Kind::Broken, true),
            (429, "", Kind::Throttled, true),
            (408, "", Kind::Broken, true),
            (400, "RequestTimeout", Kind::Broken, true),
            (409, "ConditionalRequestConflict", Kind::Broken, true),
            (404, "NoSuchKey", Kind::NotFound, false),
            (404, "NoSuchUpload", Kind::NotFound, false),
            (404, "NoSuchBucket", Kind::NoBucket, false),
            (403, "SignatureDoesNotMatch", Kind::Denied, false),
            (412, "PreconditionFailed", Kind::Precondition, false),
            (416, "InvalidRange", Kind::Range, false),
            (501, "NotImplemented", Kind::Unsupported, false),
            (507, "XMinioStorageFull", Kind::Full, false),
            (403, "QuotaExceeded", Kind::Full, false),
            (400, "InvalidPart", Kind::Refused, false),
        ] {
            let failure = answered(status, code);
            assert_eq!((failure.kind, failure.is_passing()), (kind, passes), "{status} {code}");
        }
    }

    #[test]
    fn an_answer_in_any_form_is_understood_as_far_as_it_goes() {
        assert_eq!(Failure::answered(404, None, b"").kind, Kind::NotFound);
        let failure = Failure::answered(502, Some("7"), "<html>\u{fffd}".repeat(1000).as_bytes());
        assert_eq!((failure.kind, failure.retry_after), (Kind::Broken, Some(Duration::from_secs(7))));
        assert_eq!(failure.to_string(), "502");
        assert_eq!(answered(403, "AccessDenied").to_string(), "403 AccessDenied why");
        assert!(Failure::new(Kind::Refused, "é".repeat(1000)).to_string().chars().count() <= LONGEST_TEXT);
    }

    #[test]
    fn a_caller_learns_what_it_may_conclude() {
        assert!(matches!(PortError::from(answered(404, "NoSuchKey")), PortError::NotFound("blob")));
        assert!(matches!(PortError::from(answered(416, "")), PortError::Corrupt(_)));
        assert!(matches!(PortError::from(answered(507, "")), PortError::Full(STORE)));
        assert!(matches!(PortError::from(answered(400, "")), PortError::Rejected { .. }));
        let slow = Failure::answered(503, Some("3"), b"<Code>SlowDown</Code>");
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
