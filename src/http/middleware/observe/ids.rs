//! The ids by which a request can be found: its own, and those of the trace that it belongs to.

use std::fmt;

use actix_web::http::header::{HeaderMap, HeaderName};
use uuid::Uuid;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is accepted: twice the length that common generators make.
const ID_CHARS: usize = 128;

/// A request's id: the client's or the balancer's if it is harmless in a log line, otherwise a generated one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_sane(id));
        Self(given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_sane(id: &str) -> bool {
    (1..=ID_CHARS).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
}

/// The place of a request in its caller's trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace<'a> {
    pub(super) trace_id: &'a str,
    pub(super) parent_id: &'a str,
}

/// Reads W3C Trace Context. A malformed one is ignored, as the specification requires.
pub(super) fn trace_of(headers: &HeaderMap) -> Option<Trace<'_>> {
    read_traceparent(headers.get("traceparent")?.to_str().ok()?)
}

fn read_traceparent(text: &str) -> Option<Trace<'_>> {
    let mut parts = text.splitn(5, '-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, len| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |part: &str, len| is_hex(part, len) && part.bytes().any(|b| b != b'0');
    // Later versions may append members; version 0 has none, and ff is forbidden.
    let ends = version != "00" || parts.next().is_none();
    let well_formed = is_hex(version, 2) && version != "ff" && is_hex(flags, 2) && ends;
    (well_formed && is_id(trace_id, 32) && is_id(parent_id, 16)).then_some(Trace { trace_id, parent_id })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let id_of = |given: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(given));
            RequestId::of(&headers).0
        };
        assert_eq!(id_of("edge-42_a.b"), "edge-42_a.b");
        for harmful in ["", "a b", "a\"b", "{}"] {
            assert_ne!(id_of(harmful), harmful);
        }
        assert!(!is_sane(&"a".repeat(ID_CHARS + 1)));
    }

    #[test]
    fn a_trace_is_taken_over_only_when_it_is_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = read_traceparent(good).expect("the example of the specification");
        assert_eq!(trace, Trace { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736", parent_id: "00f067aa0ba902b7" });
        assert!(read_traceparent(&good.replacen("00", "cc", 1).replace("-01", "-01-more")).is_some());
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(read_traceparent(bad), None, "{bad}");
        }
    }
}
