//! The refusal of a head that the server cannot read: the server's answer has no body, so it gets the text of a refusal by the
//! node.

use std::time::SystemTime;

use actix_http::{StatusCode, header::HttpDate};
use bytes::Bytes;

/// The text of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalText {
    pub media_type: &'static str,
    pub body: String,
}

/// The text for a status; `None` if the server's own answer is good enough.
pub type RefusalTexts = fn(u16) -> Option<RefusalText>;

/// The server states the length of the body that it does not send.
const NO_BODY: &str = "content-length: 0\r\n";

/// The answer in place of the server's own one, if that has no body and there is a text for its status.
pub(super) fn in_place_of(answer: &[u8], texts: RefusalTexts) -> Option<Bytes> {
    let head = std::str::from_utf8(answer).ok().filter(|head| head.ends_with("\r\n\r\n"))?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let (before, after) = head.split_once(NO_BODY)?;
    let RefusalText { media_type, body } = texts(status)?;
    let length = body.len();
    let fields = format!(
        "content-length: {length}\r\ncontent-type: {media_type}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    );
    Some([before, &fields, after, &body].concat().into())
}

/// The answer to a head that the server does not see; empty if there is no text for the status.
pub(super) fn of(status: StatusCode, texts: RefusalTexts) -> Bytes {
    let reason = status.canonical_reason().unwrap_or_default();
    let date = HttpDate::from(SystemTime::now());
    let code = status.as_u16();
    let answer = format!("HTTP/1.1 {code} {reason}\r\n{NO_BODY}connection: close\r\ndate: {date}\r\n\r\n");
    in_place_of(answer.as_bytes(), texts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(status: u16) -> Option<RefusalText> {
        (status == 400).then(|| RefusalText { media_type: "text/plain", body: "not HTTP".to_owned() })
    }

    #[test]
    fn an_answer_without_a_body_gets_one() {
        let answer = in_place_of(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", texts);
        let expected = "HTTP/1.1 400 Bad Request\r\ncontent-length: 8\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n\
            x-content-type-options: nosniff\r\nconnection: close\r\n\r\nnot HTTP";
        assert_eq!(answer.as_deref(), Some(expected.as_bytes()));
    }

    #[test]
    fn every_other_answer_stays_as_it_is() {
        for answer in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad",
            "",
        ] {
            assert_eq!(in_place_of(answer.as_bytes(), texts), None, "{answer}");
        }
    }
}
