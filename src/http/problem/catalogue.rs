//! The catalogue of problem types: the only place that defines a type, its status, when to retry, and its title.
//! [`refusals`](super::refusals) says which refusal has which type.
//!
//! It is part of the contract with clients (docs/problems.md; a test compares the two): types are added, never renamed.

use std::time::Duration;

use actix_web::http::StatusCode;

use self::Retry::{After, Computed, Never};
use crate::telemetry::metrics::AnswerOutcome;

/// When the same request may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before the client, the receipt or the asset has changed.
    Never,
    /// After this many seconds, unless the refusal knows better.
    After(u64),
    /// Each refusal computes the time.
    Computed,
}

/// A queue has room, a stream has ended, or another instance answers.
const SOON: Retry = After(1);

/// Long enough for the failover of a connection pool, short enough for a person who waits.
const FAILOVER: Retry = After(2);

/// A person or a sweep has to act first.
const LATER: Retry = After(60);

/// A status by its name, or by its number if HTTP has no name for it.
macro_rules! status {
    ($name:ident) => {
        StatusCode::$name
    };
    ($number:literal) => {
        StatusCode::from_u16($number).unwrap_or(StatusCode::BAD_REQUEST)
    };
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $status:tt, $retry:expr, $title:literal;)*) => {
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

            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => status!($status),)* }
            }

            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => $retry,)* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

catalogue! {
    /// A hash, an id, a header or a JSON text that cannot be read.
    MalformedRequest, "malformed-request", BAD_REQUEST, Never, "The request cannot be read";
    /// Well-formed, but values break rules; the member `errors` lists all of them.
    ValidationFailed, "validation-failed", UNPROCESSABLE_ENTITY, Never, "Values of the request are not allowed";
    UnsupportedMediaType, "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, Never, "The body has a media type that this call does not take";
    HeadersTooLarge, "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, Never, "The head of the request is too large";
    /// Only the proxy in front understands the answer.
    Misdirected, "misdirected", MISDIRECTED_REQUEST, Never, "The request must come through the proxy in front of this node";
    RequestTimeout, "request-timeout", REQUEST_TIMEOUT, Never, "The request did not arrive in time";
    NotFound, "not-found", NOT_FOUND, Never, "There is nothing here";
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED, Never, "This resource does not take the method";
    PreconditionFailed, "precondition-failed", PRECONDITION_FAILED, Never, "A precondition of the request does not hold";
    Unauthorized, "unauthorized", UNAUTHORIZED, Never, "The call needs a valid key";
    /// The member `reason` says why.
    SignatureRefused, "signature-refused", UNAUTHORIZED, Never, "The signature of the request does not count";
    Forbidden, "forbidden", FORBIDDEN, Never, "The key does not allow this";
    /// A page of another origin calls, and its browser would not hand the answer over.
    OriginNotAllowed, "origin-not-allowed", FORBIDDEN, Never, "Pages of this origin may not call this node";
    UnknownReceipt, "unknown-receipt", NOT_FOUND, Never, "There is no such receipt";
    ReceiptNotConfirmed, "receipt-not-confirmed", FORBIDDEN, Never, "The receipt is not confirmed";
    ReceiptExpired, "receipt-expired", FORBIDDEN, Never, "The receipt has expired";
    ReceiptRefunded, "receipt-refunded", FORBIDDEN, Never, "The receipt was refunded";
    ReceiptConsumed, "receipt-consumed", CONFLICT, Never, "The receipt is used up";
    ReceiptForOtherContent, "receipt-for-other-content", CONFLICT, Never, "The receipt is for other content";
    ReceiptTransition, "receipt-transition", CONFLICT, Never, "The receipt cannot go to this status";
    /// The detail says what it is in use for.
    ReceiptInUse, "receipt-in-use", CONFLICT, Never, "The receipt is still in use";
    ContentNotStored, "content-not-stored", NOT_FOUND, Never, "The content is not stored";
    /// The bytes are known but cannot be read now, or are not what they should be.
    ContentUnavailable, "content-unavailable", SERVICE_UNAVAILABLE, LATER, "The content cannot be served now";
    ContentMoving, "content-moving", CONFLICT, SOON, "The content is on its way to another tier";
    RangeNotSatisfiable, "range-not-satisfiable", RANGE_NOT_SATISFIABLE, Never, "The range lies outside the content";
    ContentTooLarge, "content-too-large", PAYLOAD_TOO_LARGE, Never, "The content is larger than the tier allows";
    MediaTypeNotAllowed, "media-type-not-allowed", FORBIDDEN, Never, "The tier does not allow this media type";
    QuotaExceeded, "quota-exceeded", TOO_MANY_REQUESTS, Computed, "The quota does not cover this";
    TooManyStreams, "too-many-streams", TOO_MANY_REQUESTS, SOON, "Too many streams run under the receipt";
    RateLimited, "rate-limited", TOO_MANY_REQUESTS, Computed, "Too many requests";
    UnknownSession, "unknown-session", NOT_FOUND, Never, "There is no such session";
    UnknownPolicy, "unknown-policy", NOT_FOUND, Never, "There is no such policy";
    /// The policy that this node obeys says no; the member `reasons` says why.
    PolicyBlocked, "policy-blocked", FORBIDDEN, Never, "The policy of this node does not allow it";
    PolicyMissing, "policy-missing", SERVICE_UNAVAILABLE, LATER, "The policy of this node is not there";
    UnknownAsset, "unknown-asset", NOT_FOUND, Never, "There is no such asset";
    /// The member `reason` says why.
    NotForSale, "not-for-sale", FORBIDDEN, Never, "Receipts for this asset are not sold on chain";
    /// The member `reason` says why. An offer, which has no payment to refuse, is no problem and has no document.
    PaymentRequired, "payment-required", PAYMENT_REQUIRED, Never, "The payment does not buy this";
    ChainBehind, "chain-behind", SERVICE_UNAVAILABLE, LATER, "The node does not know the newest blocks";
    UnknownLineage, "unknown-lineage", NOT_FOUND, Never, "Lineage knows nothing of this";
    UnknownTier, "unknown-tier", UNPROCESSABLE_ENTITY, Never, "There is no such quota tier";
    IdentityTaken, "identity-taken", CONFLICT, Never, "The identity key speaks for another producer";
    DigestMismatch, "digest-mismatch", UNPROCESSABLE_ENTITY, Never, "The bytes do not have the digest that was given";
    UploadTooLarge, "upload-too-large", PAYLOAD_TOO_LARGE, Never, "The body is larger than this node takes";
    UnknownUpload, "unknown-upload", NOT_FOUND, Never, "There is no such upload";
    /// The member `offset` says where the upload ends.
    UploadOffset, "upload-offset", CONFLICT, Never, "The upload does not end at this offset";
    UploadBusy, "upload-busy", LOCKED, SOON, "The upload is being completed";
    UploadNotComplete, "upload-not-complete", CONFLICT, Never, "A partial upload is not complete";
    TooManyUploads, "too-many-uploads", TOO_MANY_REQUESTS, LATER, "There are as many unfinished uploads as there may be";
    /// The status is the one of the tus protocol.
    ChecksumMismatch, "checksum-mismatch", 460, Never, "The bytes do not have the checksum that was given";
    UploadIncomplete, "upload-incomplete", BAD_REQUEST, Never, "The body ended early, or its chunks cannot be read";
    StorageFull, "storage-full", INSUFFICIENT_STORAGE, LATER, "The storage has no room left";
    Overloaded, "overloaded", SERVICE_UNAVAILABLE, SOON, "The node has as much to do as it can";
    DependencyUnavailable, "dependency-unavailable", SERVICE_UNAVAILABLE, FAILOVER, "Something that the node depends on does not answer";
    ShuttingDown, "shutting-down", SERVICE_UNAVAILABLE, SOON, "The node is shutting down";
    Internal, "internal", INTERNAL_SERVER_ERROR, Never, "The node failed";
}

impl ProblemType {
    /// The type's URN: what the member `type` says.
    pub fn urn(self) -> String {
        format!("urn:penstock:problem:{}", self.name())
    }

    /// The time after which a request may be repeated, where the type alone says it.
    pub(super) const fn retry_after(self) -> Option<Duration> {
        match self.retry() {
            After(seconds) => Some(Duration::from_secs(seconds)),
            Never | Computed => None,
        }
    }

    /// The label of a refusal of this type in `penstock_deliveries_total`.
    pub fn outcome(self) -> AnswerOutcome {
        if self.status().is_server_error() { AnswerOutcome::Failed } else { AnswerOutcome::Refused }
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
    fn each_refusal_that_may_pass_says_when_to_retry() {
        for kind in ProblemType::ALL {
            let passes = matches!(kind.status().as_u16(), 429 | 503 | 507);
            assert!(!passes || kind.retry() != Never, "{}", kind.name());
        }
    }

    #[test]
    fn the_documentation_lists_exactly_these_types() {
        let documented: Vec<_> = include_str!("../../../docs/problems.md")
            .lines()
            .filter(|line| line.starts_with("| `urn:penstock:problem:"))
            .map(|line| line.split('|').skip(1).take(4).map(str::trim).collect::<Vec<_>>().join(" | "))
            .collect();
        let declared: Vec<_> = ProblemType::ALL
            .iter()
            .map(|kind| {
                let retry = match kind.retry() {
                    Never => "no".to_owned(),
                    After(seconds) => format!("{seconds} s"),
                    Computed => "computed".to_owned(),
                };
                format!("`{}` | {} | {retry} | {}", kind.urn(), kind.status().as_u16(), kind.title())
            })
            .collect();
        assert_eq!(documented, declared);
    }
}
