//! A node's refusals.
//!
//! Every text from a node is made printable first: a hostile answer must not control the terminal that shows it.

use std::{fmt, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{error::AttemptFailure, silence::SilenceLimit};

/// The longest refusal that is read. A problem document is a few hundred bytes; a longer text is not one.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// The most characters shown of a refusal that is not a problem document: a proxy's HTML page does not help the user.
const MAX_SHOWN_CHARS: usize = 200;

/// Turns a refusal into a failure.
pub(super) async fn expect_success(response: Response, silence: SilenceLimit) -> Result<Response, AttemptFailure> {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        return Err(read_refusal(response, silence).await);
    }
    Ok(response)
}

/// Reads the refusal by a node.
pub(super) async fn read_refusal(mut response: Response, silence: SilenceLimit) -> AttemptFailure {
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
    if passes(status) { AttemptFailure::Passing { reason, retry_after } } else { AttemptFailure::Final(reason) }
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
    fn only_a_state_that_passes_is_tried_again() {
        for status in [408, 429, 502, 503, 504] {
            assert!(passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 412, 413, 416, 422, 500, 501] {
            assert!(!passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
