//! Ranges (RFC 9110, section 14): one, several as `multipart/byteranges`, or a refusal.
//!
//! More than 16 ranges, overlapping ranges, or ranges that add up to more than the content get the whole content: a
//! short request must not cause an excessive answer.

use std::{borrow::Cow, collections::VecDeque, fmt::Write as _, ops::Range};

use actix_web::{HttpRequest, http::header};
use bytes::Bytes;
use http_range::HttpRange;
use penstock_actors::content::delivery::{AnswerPart, DeliveryPlan};
use uuid::Uuid;

use super::StreamingSettings;
use crate::http::{Problem, ProblemType};

/// Ranges of one request.
const MAX_RANGES: usize = 16;

/// One or more ranges, answered with 206.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct RangeAnswer {
    ranges: Vec<Range<u64>>,
    /// The boundary between the parts of a multipart answer.
    boundary: Option<String>,
}

/// Parses the `Range` field; `None` for the whole content. A unit other than bytes is ignored.
///
/// # Errors
/// 416 when no range lies within the content, or when the field cannot be parsed.
pub(super) fn select(
    request: &HttpRequest,
    size: u64,
    settings: &StreamingSettings,
) -> Result<Option<RangeAnswer>, Problem> {
    let Some(field) = request.headers().get(header::RANGE) else { return Ok(None) };
    let field = field.to_str().map_err(|_| not_satisfiable(size))?;
    if !field.get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case("bytes=")) {
        return Ok(None);
    }
    let parsed = HttpRange::parse(&clamp_numbers(field), size).map_err(|_| not_satisfiable(size))?;
    let parsed: Vec<Range<u64>> =
        parsed.iter().filter(|range| range.length > 0).map(|range| range.start..range.start + range.length).collect();
    if parsed.is_empty() {
        return Err(not_satisfiable(size));
    }
    if is_excessive(&parsed, size) {
        return Ok(None);
    }
    let ranges: Vec<_> = parsed.into_iter().map(|range| shorten(range, settings.max_range_bytes)).collect();
    let boundary = (ranges.len() > 1).then(|| Uuid::new_v4().simple().to_string());
    Ok(Some(RangeAnswer { ranges, boundary }))
}

fn is_excessive(ranges: &[Range<u64>], size: u64) -> bool {
    if ranges.len() > MAX_RANGES || ranges.iter().map(|range| range.end - range.start).sum::<u64>() > size {
        return true;
    }
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    sorted.windows(2).any(|pair| pair[1].start < pair[0].end)
}

fn shorten(range: Range<u64>, longest: u64) -> Range<u64> {
    let end = if longest == 0 { range.end } else { range.end.min(range.start.saturating_add(longest)) };
    range.start..end
}

/// Numbers of 20 and more digits lie past the end of any content; the parser takes only those that fit 64 bits.
fn clamp_numbers(field: &str) -> Cow<'_, str> {
    let is_long = |text: &str| text.len() > 19 && text.bytes().all(|b| b.is_ascii_digit());
    if !field.split([',', '-', '=', ' ']).any(is_long) {
        return Cow::Borrowed(field);
    }
    let clamp = |part: &str| if is_long(part) { u64::MAX.to_string() } else { part.to_owned() };
    let (unit, set) = field.split_at(6);
    let specs: Vec<String> = set
        .split(',')
        .map(|spec| spec.split('-').map(|number| clamp(number.trim())).collect::<Vec<_>>().join("-"))
        .collect();
    Cow::Owned(format!("{unit}{}", specs.join(",")))
}

fn not_satisfiable(size: u64) -> Problem {
    let problem = Problem::new(ProblemType::RangeNotSatisfiable).with("size", size);
    match header::HeaderValue::try_from(format!("bytes */{size}")) {
        Ok(value) => problem.header(header::CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

impl RangeAnswer {
    pub(in crate::http) fn content_bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// `Content-Range` of a single range.
    pub(super) fn content_range(&self, size: u64) -> Option<String> {
        match self.ranges.as_slice() {
            [range] => Some(content_range(range, size)),
            _ => None,
        }
    }

    /// The media type of a multipart answer.
    pub(super) fn multipart_type(&self) -> Option<String> {
        self.boundary.as_ref().map(|boundary| format!("multipart/byteranges; boundary={boundary}"))
    }

    /// The body: a single range plain, several with a header each (RFC 9110, section 14.6). The media type and the size are
    /// those of the whole content.
    pub(super) fn plan(&self, media_type: &str, size: u64) -> DeliveryPlan {
        let Some(boundary) = &self.boundary else {
            let parts =
                self.ranges.iter().map(|range| AnswerPart { framing: Bytes::new(), range: range.clone() }).collect();
            return DeliveryPlan { parts, tail: Bytes::new() };
        };
        let parts: VecDeque<AnswerPart> = self
            .ranges
            .iter()
            .enumerate()
            .map(|(index, range)| {
                let mut framing = String::with_capacity(160);
                // Writing to a string cannot fail.
                let _ = write!(
                    framing,
                    "{}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {}\r\n\r\n",
                    if index == 0 { "" } else { "\r\n" },
                    content_range(range, size),
                );
                AnswerPart { framing: framing.into(), range: range.clone() }
            })
            .collect();
        DeliveryPlan { parts, tail: format!("\r\n--{boundary}--\r\n").into() }
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;
    use crate::http::{Origins, Proxies};

    fn read(field: &str, size: u64, max_range_bytes: u64) -> Result<Vec<Range<u64>>, u16> {
        let request = TestRequest::get().insert_header((header::RANGE, field)).to_http_request();
        let proxies = Proxies::new(Vec::new());
        let origins = Origins::default();
        let settings = StreamingSettings { max_range_bytes, content_host: String::new(), proxies, origins };
        match select(&request, size, &settings) {
            Ok(None) => Ok(vec![]),
            Ok(Some(answer)) => Ok(answer.ranges),
            Err(problem) => Err(problem.kind().status().as_u16()),
        }
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    fn ranges_are_read_as_rfc_9110_says() {
        let whole = Ok(vec![]);
        for (field, size, expected) in [
            ("bytes=0-0", 10, Ok(vec![0..1])),
            ("bytes=2-", 10, Ok(vec![2..10])),
            ("bytes=-3", 10, Ok(vec![7..10])),
            ("bytes=-30", 10, Ok(vec![0..10])),
            ("bytes=5-500", 10, Ok(vec![5..10])),
            ("BYTES=1-2", 10, Ok(vec![1..3])),
            ("bytes=0-1, 4-5", 10, Ok(vec![0..2, 4..6])),
            ("bytes=4-5,0-1", 10, Ok(vec![4..6, 0..2])),
            ("bytes=0-1,100-200", 10, Ok(vec![0..2])),
            ("bytes=0-99999999999999999999999", 10, Ok(vec![0..10])),
            ("bytes=-99999999999999999999999", 10, Ok(vec![0..10])),
            ("bytes=10-", 10, Err(416)),
            ("bytes=99999999999999999999-", 10, Err(416)),
            ("bytes=-0", 10, Err(416)),
            ("bytes=0-", 0, Err(416)),
            ("bytes=-5", 0, Err(416)),
            ("bytes=", 10, Err(416)),
            ("bytes=5-2", 10, Err(416)),
            ("bytes=a-b", 10, Err(416)),
            ("bytes=--5", 10, Err(416)),
            ("items=0-5", 10, whole.clone()),
            ("bytes=0-5,3-7", 10, whole.clone()),
            ("bytes=0-9,0-0", 10, whole.clone()),
        ] {
            assert_eq!(read(field, size, 0), expected, "{field} of {size}");
        }
        let many = (0..17).map(|i| format!("{i}-{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(read(&format!("bytes={many}"), 100, 0), whole);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    fn a_range_longer_than_the_limit_is_answered_by_its_beginning() {
        assert_eq!(read("bytes=5-", 100, 10), Ok(vec![5..15]));
    }

    proptest! {
        #[test]
        fn no_field_selects_outside_the_content_or_more_than_it(
            field in "bytes=[-0-9, ]{0,40}|\\PC{0,20}",
            size in 0_u64..1000,
            longest in 0_u64..100,
        ) {
            properties::check(field.as_bytes(), size, longest);
        }
    }
}
