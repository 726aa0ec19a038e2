//! The catalogue of problem types: the only place that defines a type, its status and its title.
//!
//! It is part of the contract with clients (docs/problems.md; a test compares the two): types are added, never renamed.

use actix_web::http::StatusCode;

macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $status:ident, $title:literal;)*) => {
        /// The kinds of errors that clients can distinguish.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemType {
            /// In the order of docs/problems.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The last part of the type's URN.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

catalogue! {
    /// A hash, an id, a header or a JSON text that cannot be read.
    MalformedRequest, "malformed-request", BAD_REQUEST, "The request cannot be read";
    /// Well-formed, but values break rules; the member `errors` lists all of them.
    ValidationFailed, "validation-failed", UNPROCESSABLE_ENTITY, "Values of the request are not allowed";
    UnsupportedMediaType, "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body has a media type that this call does not take";
    HeadersTooLarge, "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large";
    /// Only the proxy in front understands the answer.
    Misdirected, "misdirected", MISDIRECTED_REQUEST, "The request must come through the proxy in front of this node";
    RequestTimeout, "request-timeout", REQUEST_TIMEOUT, "The body of the request did not arrive in time";
    NotFound, "not-found", NOT_FOUND, "There is nothing here";
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED, "This resource does not take the method";
    PreconditionFailed, "precondition-failed", PRECONDITION_FAILED, "A precondition of the request does not hold";
    Unauthorized, "unauthorized", UNAUTHORIZED, "The call needs a valid key";
    /// The member `reason` says why.
    SignatureRefused, "signature-refused", UNAUTHORIZED, "The signature of the request does not count";
    Forbidden, "forbidden", FORBIDDEN, "The key does not allow this";
    UnknownReceipt, "unknown-receipt", NOT_FOUND, "There is no such receipt";
    ReceiptNotConfirmed, "receipt-not-confirmed", FORBIDDEN, "The receipt is not confirmed";
    ReceiptExpired, "receipt-expired", FORBIDDEN, "The receipt has expired";
    ReceiptRefunded, "receipt-refunded", FORBIDDEN, "The receipt was refunded";
    ReceiptConsumed, "receipt-consumed", CONFLICT, "The receipt is used up";
    ReceiptForOtherContent, "receipt-for-other-content", CONFLICT, "The receipt is for other content";
    ReceiptTransition, "receipt-transition", CONFLICT, "The receipt cannot go to this status";
    ContentNotStored, "content-not-stored", NOT_FOUND, "The content is not stored";
    /// The bytes are known but cannot be read now, or are not what they should be.
    ContentUnavailable, "content-unavailable", SERVICE_UNAVAILABLE, "The content cannot be served now";
    ContentMoving, "content-moving", CONFLICT, "The content is on its way to another tier";
    RangeNotSatisfiable, "range-not-satisfiable", RANGE_NOT_SATISFIABLE, "The range lies outside the content";
    ContentTooLarge, "content-too-large", PAYLOAD_TOO_LARGE, "The content is larger than the tier allows";
    MediaTypeNotAllowed, "media-type-not-allowed", FORBIDDEN, "The tier does not allow this media type";
    QuotaExceeded, "quota-exceeded", TOO_MANY_REQUESTS, "The quota does not cover this";
    TooManyStreams, "too-many-streams", TOO_MANY_REQUESTS, "Too many streams run under the receipt";
    RateLimited, "rate-limited", TOO_MANY_REQUESTS, "Too many requests";
    UnknownSession, "unknown-session", NOT_FOUND, "There is no such session";
    UnknownPolicy, "unknown-policy", NOT_FOUND, "There is no such policy";
    /// The policy that this node obeys says no; the member `reasons` says why.
    PolicyBlocked, "policy-blocked", FORBIDDEN, "The policy of this node does not allow it";
    PolicyMissing, "policy-missing", SERVICE_UNAVAILABLE, "The policy of this node is not there";
    UnknownAsset, "unknown-asset", NOT_FOUND, "There is no such asset";
    UnknownLineage, "unknown-lineage", NOT_FOUND, "Lineage knows nothing of this";
    UnknownTier, "unknown-tier", UNPROCESSABLE_ENTITY, "There is no such quota tier";
    IdentityTaken, "identity-taken", CONFLICT, "The identity key speaks for another producer";
    DigestMismatch, "digest-mismatch", UNPROCESSABLE_ENTITY, "The bytes do not have the digest that was given";
    UploadTooLarge, "upload-too-large", PAYLOAD_TOO_LARGE, "The body is larger than this node takes";
    UploadIncomplete, "upload-incomplete", BAD_REQUEST, "The body ended early";
    StorageFull, "storage-full", INSUFFICIENT_STORAGE, "The storage has no room left";
    Overloaded, "overloaded", SERVICE_UNAVAILABLE, "The node has as much to do as it can";
    DependencyUnavailable, "dependency-unavailable", SERVICE_UNAVAILABLE, "Something that the node depends on does not answer";
    ShuttingDown, "shutting-down", SERVICE_UNAVAILABLE, "The node is shutting down";
    Internal, "internal", INTERNAL_SERVER_ERROR, "The node failed";
}

impl ProblemType {
    /// The type's URN: what the member `type` says.
    pub fn urn(self) -> String {
        format!("urn:penstock:problem:{}", self.name())
    }

    /// The type for an answer of this status that the framework gives on its own.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::PRECONDITION_FAILED => Self::PreconditionFailed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::UploadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::RANGE_NOT_SATISFIABLE => Self::RangeNotSatisfiable,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::HeadersTooLarge,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            StatusCode::SERVICE_UNAVAILABLE => Self::Overloaded,
            _ if status.as_u16() < 500 => Self::MalformedRequest,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_has_a_name_of_its_own_and_an_error_status() {
        let names: BTreeSet<_> = ProblemType::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemType::ALL.len());
        assert!(ProblemType::ALL.iter().all(|kind| kind.status().as_u16() >= 400));
    }

    #[test]
    fn the_documentation_lists_exactly_these_types() {
        let documented: Vec<_> = include_str!("../../../docs/problems.md")
            .lines()
            .filter(|line| line.starts_with("| `urn:penstock:problem:"))
            .map(|line| line.split('|').skip(1).take(3).map(str::trim).collect::<Vec<_>>().join(" | "))
            .collect();
        let declared: Vec<_> = ProblemType::ALL
            .iter()
            .map(|kind| format!("`{}` | {} | {}", kind.urn(), kind.status().as_u16(), kind.title()))
            .collect();
        assert_eq!(documented, declared);
    }
}
