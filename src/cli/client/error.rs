//! Failures between this client and a node, and whether a retry may help.
//!
//! Every text from a node is made printable first: a hostile answer must not control the terminal that shows it.

use std::{error::Error, fmt, io, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{put::source::Unreadable, silence::SilenceLimit};

/// The longest refusal that is read. A problem document is a few hundred bytes; a longer text is not one.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// The most characters shown of a refusal that is not a problem document: a proxy's HTML page does not help the user.
const MAX_SHOWN_CHARS: usize = 200;

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptFailure {
    /// The node was not reached, was busy, or the connection was lost: the same request may succeed later.
    #[error("{reason}")]
    Passing {
        reason: String,
        /// How long the node asks the client to wait.
        retry_after: Option<Duration>,
    },
    /// The same request would fail again.
    #[error("{0}")]
    Final(String),
}

impl AttemptFailure {
    /// A connection that could not be made, or was lost.
    pub(super) fn transport(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::Final(
                "the request cannot be made: a key or a media type has characters that it may not have".into(),
            );
        }
        if error.is_redirect() {
            return Self::Final("the node redirects too often".into());
        }
        if let Some(file) = Cause::all(error).find_map(|cause| cause.of_file().map(ToString::to_string)) {
            return Self::Final(file);
        }
        let what = if error.is_connect() { "cannot connect" } else { "the connection was lost" };
        let reason = if error.is_timeout() {
            "the node did not answer in time".to_owned()
        } else if let Some(why) = Cause::all(error).find_map(Cause::told) {
            format!("{what}: {why}")
        } else {
            what.to_owned()
        };
        Self::Passing { reason, retry_after: None }
    }

    /// A connection that was silent for this long.
    pub(super) fn silent(longest: Duration) -> Self {
        let reason = format!("the connection carried nothing for {}", humantime::format_duration(longest));
        Self::Passing { reason, retry_after: None }
    }

    /// A refusal by the node.
    pub(super) async fn refusal(mut response: Response, silence: SilenceLimit) -> Self {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, Timestamp::now()));
        let mut body = Vec::new();
        // A refusal whose text is lost on the way is still a refusal.
        while let Ok(Some(part)) = silence.bound(response.chunk()).await {
            body.extend_from_slice(&part[..part.len().min(MAX_REFUSAL_BYTES - body.len())]);
            if body.len() == MAX_REFUSAL_BYTES {
                break;
            }
        }
        let reason = match serde_json::from_slice::<ProblemDocument>(&body) {
            Ok(problem) => problem.to_string(),
            Err(_) => unknown_refusal(status, &body),
        };
        if passes(status) { Self::Passing { reason, retry_after } } else { Self::Final(reason) }
    }
}

/// Whether the same request may succeed later. A 500 would only be repeated.
fn passes(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// One error in the chain of a failed request.
#[derive(Clone, Copy)]
struct Cause<'a>(&'a (dyn Error + 'static));

impl<'a> Cause<'a> {
    fn all(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self(error)), |cause| cause.next())
    }

    /// The error below this one. An I/O error that wraps another error does not name it as its source.
    fn next(self) -> Option<Self> {
        let wrapped = self.io().and_then(io::Error::get_ref).map(|inner| Self(inner));
        wrapped.or_else(|| self.0.source().map(Cause))
    }

    fn io(self) -> Option<&'a io::Error> {
        self.0.downcast_ref()
    }

    /// The error of the file that was sent.
    fn of_file(self) -> Option<&'a Unreadable> {
        self.0.downcast_ref()
    }

    /// The reason for a person: the system's, or what is wrong with the encryption. Texts of libraries are left out.
    fn told(self) -> Option<String> {
        if let Some(error) = self.0.downcast_ref::<rustls::Error>() {
            return Some(of_tls(error).to_owned());
        }
        let io = self.io()?;
        if io.raw_os_error().is_some() {
            return Some(io.to_string());
        }
        if io.kind() == io::ErrorKind::UnexpectedEof {
            return Some("the other side closed it".to_owned());
        }
        io.to_string().strip_prefix(NO_ADDRESS).map(|why| format!("its name has no address: {why}"))
    }
}

/// The beginning of the standard library's text for a name that cannot be resolved.
const NO_ADDRESS: &str = "failed to lookup address information: ";

fn of_tls(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer};

    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "its certificate has expired",
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is for another name"
        }
        rustls::Error::InvalidCertificate(UnknownIssuer) => "this machine does not trust the issuer of its certificate",
        rustls::Error::InvalidCertificate(_) => "its certificate is not to be trusted",
        rustls::Error::InvalidMessage(_) => "what answers there does not speak TLS",
        _ => "no encryption was agreed on",
    }
}

/// Parses a `Retry-After`: seconds, or a date (RFC 9110). A date in the past means no wait.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// A problem document (RFC 9457).
#[derive(Debug, Deserialize)]
struct ProblemDocument {
    title: String,
    #[serde(default)]
    detail: String,
    /// `limit`, `used`, `remaining`, `window`, `retryAfter` and further members of later nodes.
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl fmt::Display for ProblemDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The title expresses the type and the status in words; the instance names a log line of the node.
        const NOT_SHOWN: [&str; 3] = ["type", "status", "instance"];

        write!(f, "{}", Printable(&self.title))?;
        if !self.detail.is_empty() {
            write!(f, ": {}", Printable(&self.detail))?;
        }
        let shown = self.members.iter().filter(|(name, _)| !NOT_SHOWN.contains(&name.as_str()));
        for (index, (name, value)) in shown.enumerate() {
            f.write_str(if index == 0 { " (" } else { ", " })?;
            match value {
                Value::String(text) => write!(f, "{} {}", Printable(name), Printable(text))?,
                other => write!(f, "{} {}", Printable(name), Printable(&other.to_string()))?,
            }
        }
        if self.members.keys().any(|name| !NOT_SHOWN.contains(&name.as_str())) {
            f.write_str(")")?;
        }
        Ok(())
    }
}

fn unknown_refusal(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return format!("the node answered {status}");
    }
    let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    format!("the node answered {status}: {}", Printable(&shown))
}

/// Text from outside, with control characters replaced.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        self.0.chars().try_for_each(|char| f.write_char(if char.is_control() { ' ' } else { char }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_the_members_that_help() {
        let problem: ProblemDocument = serde_json::from_value(serde_json::json!({
            "type": "urn:penstock:problem:quota-exceeded", "title": "Quota exceeded", "status": 429,
            "detail": "the hour is used up", "window": "hour", "remaining": 0,
        }))
        .unwrap();
        assert_eq!(problem.to_string(), "Quota exceeded: the hour is used up (remaining 0, window hour)");
    }

    #[test]
    fn a_bare_problem_is_its_title() {
        let problem: ProblemDocument = serde_json::from_str(r#"{"title": "Gone", "status": 410}"#).unwrap();
        assert_eq!(problem.to_string(), "Gone");
    }

    #[test]
    fn an_answer_cannot_steer_the_terminal() {
        let problem: ProblemDocument =
            serde_json::from_value(serde_json::json!({"title": "a\u{1b}[2Jb", "x\u{7}": ["\u{9b}2J"]})).unwrap();
        assert!(problem.to_string().chars().all(|char| !char.is_control()));
        assert!(unknown_refusal(StatusCode::BAD_GATEWAY, b"<h1>\x1b[2J</h1>").chars().all(|char| !char.is_control()));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(parse_retry_after("120", now), Some(Duration::from_mins(2)));
        assert_eq!(parse_retry_after("Mon, 23 Nov 2026 12:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("Mon, 23 Nov 2026 11:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
    }

    #[test]
    fn a_reason_is_the_systems_or_what_is_wrong_with_the_encryption() {
        let told = |error: io::Error| Cause::all(&error).find_map(Cause::told);
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(told(wrapped(expired)).as_deref(), Some("its certificate has expired"));
        let no_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(told(wrapped(no_tls)).as_deref(), Some("what answers there does not speak TLS"));
        assert!(told(io::Error::from_raw_os_error(111)).is_some_and(|why| why.starts_with("Connection refused")));
        assert_eq!(told(io::Error::other("a library's words")), None);
    }

    #[test]
    fn only_a_state_that_passes_is_tried_again() {
        for status in [408, 429, 502, 503, 504] {
            assert!(passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 412, 413, 416, 422, 500, 501] {
            assert!(!passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
