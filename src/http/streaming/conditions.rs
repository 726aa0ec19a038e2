//! Conditional requests (RFC 9110, section 13). The entity tag is the content hash: strong, and the same for ever. There is
//! no date of modification, so conditions on dates do not apply.

use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{self, EntityTag, Header, IfMatch, IfNoneMatch, IfRange},
    },
};
use penstock_actors::ids::ContentHash;

/// A precondition that decides the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// The client has it already: 304.
    NotModified,
    /// The client wants another one: 412.
    Failed,
}

/// Evaluates `If-Match`, then `If-None-Match`. A field that cannot be read does not match anything.
pub(super) fn evaluate(request: &HttpRequest, hash: ContentHash) -> Option<Precondition> {
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
    }
    None
}

/// Whether the request has a range that is to be looked at: a GET (RFC 9110, section 14.2) whose `If-Range`, if there is
/// one, holds by a strong comparison. A date never holds, for there is nothing to compare it with.
pub(super) fn range_applies(request: &HttpRequest, hash: ContentHash) -> bool {
    if request.method() != Method::GET || !request.headers().contains_key(header::RANGE) {
        return false;
    }
    if !request.headers().contains_key(header::IF_RANGE) {
        return true;
    }
    match IfRange::parse(request) {
        Ok(IfRange::EntityTag(tag)) => tag.strong_eq(&EntityTag::new_strong(hash.to_string())),
        Ok(IfRange::Date(_)) | Err(_) => false,
    }
}
