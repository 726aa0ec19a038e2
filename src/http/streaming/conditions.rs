//! Conditional requests (RFC 9110, section 13). The entity tag is the content hash: strong, and the same for ever. The
//! modification date is the time when the content was stored; if a request has both, the tag decides.

use std::time::SystemTime;

use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{
            self, EntityTag, Header, HttpDate, IfMatch, IfModifiedSince, IfNoneMatch, IfRange, IfUnmodifiedSince,
        },
    },
};
use jiff::Timestamp;
use penstock_actors::ids::ContentHash;

/// A precondition that decides the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// The client has the content already: 304.
    NotModified,
    /// The client wants another version: 412.
    Failed,
}

/// Whether the request has a condition that may decide the answer.
pub(super) fn are_there(request: &HttpRequest) -> bool {
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE]
        .iter()
        .any(|condition| request.headers().contains_key(condition))
}

/// Evaluates the conditions in the order of section 13.2.2. A tag that cannot be parsed matches nothing; a date that
/// cannot be parsed is ignored.
pub(super) fn evaluate(request: &HttpRequest, hash: ContentHash, stored_at: Timestamp) -> Option<Precondition> {
    let headers = request.headers();
    let tag = || EntityTag::new_strong(hash.to_string());
    if headers.contains_key(header::IF_MATCH) {
        let matches = match IfMatch::parse(request) {
            Ok(IfMatch::Any) => true,
            Ok(IfMatch::Items(tags)) => tags.iter().any(|one| one.strong_eq(&tag())),
            Err(_) => false,
        };
        if !matches {
            return Some(Precondition::Failed);
        }
    } else if let Ok(IfUnmodifiedSince(date)) = IfUnmodifiedSince::parse(request)
        && stored_at.as_second() > second(date)
    {
        return Some(Precondition::Failed);
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        let matches = match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(&tag())),
            Err(_) => false,
        };
        if matches {
            return Some(Precondition::NotModified);
        }
    } else if let Ok(IfModifiedSince(date)) = IfModifiedSince::parse(request)
        && stored_at.as_second() <= second(date)
    {
        return Some(Precondition::NotModified);
    }
    None
}

/// Whether to evaluate a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeCondition {
    /// There is none, or `If-Range` does not hold.
    None,
    Always,
    /// Only for content that was stored in this second of Unix time.
    StoredAt(i64),
}

/// The range condition of the request; ranges are for GET alone (RFC 9110, section 14.2). `If-Range` needs a strong
/// match: the same tag, or exactly the same date.
pub(super) fn range_condition(request: &HttpRequest, hash: ContentHash) -> RangeCondition {
    if request.method() != Method::GET || !request.headers().contains_key(header::RANGE) {
        return RangeCondition::None;
    }
    if !request.headers().contains_key(header::IF_RANGE) {
        return RangeCondition::Always;
    }
    match IfRange::parse(request) {
        Ok(IfRange::EntityTag(tag)) if tag.strong_eq(&EntityTag::new_strong(hash.to_string())) => {
            RangeCondition::Always
        }
        Ok(IfRange::Date(date)) => RangeCondition::StoredAt(second(date)),
        Ok(IfRange::EntityTag(_)) | Err(_) => RangeCondition::None,
    }
}

/// Seconds since 1970; a date before that has none.
fn second(date: HttpDate) -> i64 {
    let since = SystemTime::from(date).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
