//! What holds for every `Range` field.

use actix_web::{http::header::HeaderValue, test::TestRequest};

use super::*;
use crate::http::{Origins, Proxies};

/// Gives the field to [`select`] for content of this size, with this limit on ranges.
///
/// # Panics
/// When the answer is wrong.
pub(crate) fn check(field: &[u8], size: u64, max_range_bytes: u64) {
    let Ok(value) = HeaderValue::from_bytes(field) else { return };
    let request = TestRequest::get().insert_header((header::RANGE, value)).to_http_request();
    let settings = StreamingSettings {
        max_range_bytes,
        content_host: String::new(),
        proxies: Proxies::new(Vec::new()),
        origins: Origins::default(),
    };
    let selected = select(&request, size, &settings).map_err(|problem| problem.kind().status().as_u16());
    match &selected {
        Ok(Some(answer)) => check_answer(answer, size, max_range_bytes),
        Ok(None) => {}
        Err(status) => assert_eq!(*status, 416),
    }
    if let Some(expected) = of_plain_range(field, size) {
        let expected = expected.map(|range| shorten(range, max_range_bytes)).ok_or(416);
        let selected = selected.map(|answer| answer.map(|answer| answer.ranges));
        assert_eq!(selected, expected.map(|range| Some(vec![range])));
    }
}

fn check_answer(answer: &RangeAnswer, size: u64, longest: u64) {
    assert!((1..=MAX_RANGES).contains(&answer.ranges.len()));
    for range in &answer.ranges {
        assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
        assert!(longest == 0 || range.end - range.start <= longest, "{range:?} is longer than {longest}");
    }
    assert!(answer.content_bytes() <= size);
    assert!(!is_excessive(&answer.ranges, size));
    assert_eq!(answer.content_range(size).is_some(), answer.ranges.len() == 1);
    assert_eq!(answer.multipart_type().is_some(), answer.ranges.len() > 1);
    let plan = answer.plan("video/mp4", size);
    assert!(plan.parts.iter().map(|part| &part.range).eq(&answer.ranges));
    assert_eq!(plan.content_bytes(), answer.content_bytes());
    assert_eq!(plan.tail.is_empty(), answer.ranges.len() == 1);
}

/// The range in a field that has a single one with both ends, read once more in the plainest way; `Some(None)` where it cannot be
/// satisfied, and `None` for every other field.
fn of_plain_range(field: &[u8], size: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = std::str::from_utf8(field).ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let is_number = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    Some((first <= last && first < size).then(|| first..size.min(last + 1)))
}
