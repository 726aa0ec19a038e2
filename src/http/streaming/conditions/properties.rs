//! What holds for every head with conditions.

use actix_web::{
    http::header::{HeaderName, HeaderValue},
    test::TestRequest,
};

use super::*;

const HASH: ContentHash = ContentHash::from_bytes([0xab; 32]);

/// A head that asks for content that was stored at a time.
pub(crate) struct Head {
    method: Method,
    stored_at: Timestamp,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Head {
    /// Fields that are not fields are left out.
    pub(crate) fn new<'a>(method: &str, second: i64, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let field = |(name, value)| Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?));
        Self {
            method: Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET),
            stored_at: Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH),
            fields: fields.filter_map(field).collect(),
        }
    }

    fn without(&self, left_out: &HeaderName) -> HttpRequest {
        let request = TestRequest::with_uri("/").method(self.method.clone());
        let fields = self.fields.iter().filter(|(name, _)| name != left_out);
        fields.fold(request, |request, (name, value)| request.append_header((name, value))).to_http_request()
    }

    fn values(&self, wanted: &HeaderName) -> Vec<&[u8]> {
        self.fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_bytes()).collect()
    }
}

/// # Panics
/// When a condition is evaluated wrongly.
pub(crate) fn check(head: &Head) {
    let evaluated = |left_out| evaluate(&head.without(left_out), HASH, head.stored_at);
    let request = head.without(&header::HOST);
    let answer = evaluated(&header::HOST);
    assert!(answer.is_none() || are_there(&request));
    // A tag decides, whatever a date says.
    let (wanted, held) = (head.values(&header::IF_MATCH), head.values(&header::IF_NONE_MATCH));
    if !wanted.is_empty() {
        assert_eq!(answer, evaluated(&header::IF_UNMODIFIED_SINCE));
    }
    if !held.is_empty() {
        assert_eq!(answer, evaluated(&header::IF_MODIFIED_SINCE));
    }
    // A client that wants another version never gets this one, and one that has this version does not get it again.
    let own = format!("\"{HASH}\"");
    for is_this in [own.as_bytes(), b"*"] {
        if wanted == [is_this] {
            assert_ne!(answer, Some(Precondition::Failed));
        }
        if held == [is_this] && wanted.is_empty() && head.values(&header::IF_UNMODIFIED_SINCE).is_empty() {
            assert_eq!(answer, Some(Precondition::NotModified));
        }
    }
    let ranges = range_condition(&request, HASH);
    if request.method() != Method::GET || head.values(&header::RANGE).is_empty() {
        assert_eq!(ranges, RangeCondition::None);
    } else if let [condition] = head.values(&header::IF_RANGE)[..] {
        assert_eq!(ranges == RangeCondition::Always, condition == own.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn field() -> impl Strategy<Value = (&'static str, String)> {
        let name = select(vec![
            "if-match",
            "if-none-match",
            "if-range",
            "if-modified-since",
            "if-unmodified-since",
            "range",
            "host",
        ]);
        let value = prop_oneof![
            Just(format!("\"{HASH}\"")),
            Just(format!("W/\"{HASH}\"")),
            Just(format!("\"x\", \"{HASH}\"")),
            select(vec!["*", "Mon, 23 Nov 2026 12:00:00 GMT", "Mon Nov 23 12:00:00 2026", "bytes=0-1"])
                .prop_map(str::to_owned),
            "[ -~]{0,20}|\\PC{0,10}",
        ];
        (name, value)
    }

    proptest! {
        #[test]
        fn every_head_is_evaluated_as_rfc_9110_says(
            method in select(vec!["GET", "HEAD", "POST"]),
            second in 1_795_435_190_i64..1_795_435_210,
            fields in vec(field(), 0..6),
        ) {
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            check(&Head::new(method, second, fields));
        }
    }
}
