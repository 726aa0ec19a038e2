//! The table of refusals: for each error of the actors and the ports, its problem type, and what else it tells the client.
//!
//! The [catalogue](super::catalogue) has the status and the time to retry of each type. A refusal that knows a better time
//! overrides it here. Handlers pass these errors on with `?`.

use std::{borrow::Cow, time::Duration};

use penstock_actors::{
    content::{
        resumable::{MOST_PARTS, ResumableError},
        upload::IngestError,
    },
    ids::InvalidId,
    policy_evaluator::EvaluationError,
    ports::{GovernanceRun, Missing, NewAssetError, PortError},
    quota::refusal::{Exhausted, Refusal},
    storage::mover::MoveError,
};
use serde_json::json;

use super::{Problem, ProblemType};

/// How soon one of many uploads has probably ended.
const UPLOAD_ENDS: Duration = Duration::from_secs(5);

/// The failure of a port that the client could not have avoided.
impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        Self::from(&error)
    }
}

impl From<&PortError> for Problem {
    fn from(error: &PortError) -> Self {
        let problem = match error {
            PortError::Unavailable { retry_after, .. } => {
                let problem = Self::new(ProblemType::DependencyUnavailable);
                match retry_after {
                    Some(after) => problem.retry_after(*after),
                    None => problem,
                }
            }
            PortError::Fenced => Self::new(ProblemType::DependencyUnavailable),
            PortError::Full(_) => Self::new(ProblemType::StorageFull),
            PortError::Corrupt(_) => Self::new(ProblemType::ContentUnavailable),
            PortError::Rejected { .. } => Self::new(ProblemType::Internal),
            PortError::NotFound(Missing::Asset) => Self::new(ProblemType::UnknownAsset),
            PortError::NotFound(Missing::QuotaTier) => Self::new(ProblemType::UnknownTier),
            PortError::NotFound(Missing::Producer | Missing::Content | Missing::Blob) => {
                Self::new(ProblemType::NotFound)
            }
        };
        problem.caused_by(error)
    }
}

/// Stored content that cannot be opened: the index has it, so it is not absent.
pub(in crate::http) fn unreadable(error: &PortError) -> Problem {
    match error {
        PortError::NotFound(_) => Problem::new(ProblemType::ContentUnavailable).caused_by(error),
        PortError::Corrupt(_) => Problem::new(ProblemType::ContentUnavailable)
            .detail("the stored bytes are damaged, and withheld until they are repaired")
            .caused_by(error),
        _ => Problem::from(error),
    }
}

/// The receipt, its quota or its windows do not permit a stream.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownReceipt => ProblemType::UnknownReceipt.into(),
            Refusal::NotConfirmed => ProblemType::ReceiptNotConfirmed.into(),
            Refusal::Expired => ProblemType::ReceiptExpired.into(),
            Refusal::Refunded => ProblemType::ReceiptRefunded.into(),
            Refusal::OtherContent => ProblemType::ReceiptForOtherContent.into(),
            Refusal::Consumed => ProblemType::ReceiptConsumed.into(),
            Refusal::ContentNotStored => ProblemType::ContentNotStored.into(),
            Refusal::MediaTypeNotAllowed => ProblemType::MediaTypeNotAllowed.into(),
            Refusal::TooLarge { limit, size } => {
                Self::new(ProblemType::ContentTooLarge).with("limit", limit).with("size", size)
            }
            Refusal::Quota { window, what, limit, used, remaining, retry_after } => {
                let what = match what {
                    Exhausted::Bytes => "bytes",
                    Exhausted::Requests => "requests",
                };
                Self::new(ProblemType::QuotaExceeded)
                    .detail(format!("the {what} of this {} do not cover the answer", window.as_str()))
                    .with("window", window.as_str())
                    .with("unit", what)
                    .with("limit", limit)
                    .with("used", used)
                    .with("remaining", remaining)
                    .retry_after(retry_after)
            }
            Refusal::TooManyStreams { limit, active } => {
                Self::new(ProblemType::TooManyStreams).with("limit", limit).with("used", active).with("remaining", 0)
            }
            Refusal::Overloaded { queue, retry_after } => Self::new(ProblemType::Overloaded)
                .caused_by(format_args!("the {queue} queue is full"))
                .retry_after(retry_after),
            Refusal::Unavailable { retry_after } => {
                Self::new(ProblemType::DependencyUnavailable).retry_after(retry_after)
            }
        }
    }
}

/// An upload that was not taken.
impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::TooLarge { limit } => Self::new(ProblemType::UploadTooLarge).with("limit", limit),
            IngestError::DigestMismatch { expected, actual } => Self::new(ProblemType::DigestMismatch)
                .with("expected", expected.to_string())
                .with("actual", actual.to_string()),
            IngestError::Overloaded => ProblemType::Overloaded.into(),
            IngestError::ProducerHasShare { held } => Self::new(ProblemType::TooManyUploads)
                .detail("the producer has its share of the uploads that this instance takes at a time")
                .with("limit", held)
                .retry_after(UPLOAD_ENDS),
            IngestError::Port(error) => error.into(),
        }
    }
}

/// A request of a resumable upload that was not carried out.
impl From<ResumableError> for Problem {
    fn from(error: ResumableError) -> Self {
        match error {
            ResumableError::Unknown => ProblemType::UnknownUpload.into(),
            ResumableError::Offset { offset } => Self::new(ProblemType::UploadOffset).with("offset", offset),
            ResumableError::TooLong { length } => Self::new(ProblemType::UploadTooLarge)
                .detail("the upload was declared shorter than this")
                .with("limit", length),
            ResumableError::TooMany { limit } => Self::new(ProblemType::TooManyUploads)
                .detail("complete or remove uploads of this producer first")
                .with("limit", limit),
            ResumableError::NoRoom { .. } => Self::new(ProblemType::StorageFull).caused_by(error),
            ResumableError::TooManyParts => Self::new(ProblemType::UploadTooLarge)
                .detail(
                    "the upload arrived in too many requests; begin it again, and send more bytes with each request",
                )
                .with("limit", MOST_PARTS),
            ResumableError::Final => {
                Self::new(ProblemType::Forbidden).detail("a final upload takes its bytes from partial uploads")
            }
            ResumableError::Unfinished => Self::new(ProblemType::UploadNotComplete)
                .detail("each part of a final upload is a complete partial upload of the same producer"),
            ResumableError::Busy => ProblemType::UploadBusy.into(),
            ResumableError::Ingest(error) => error.into(),
        }
    }
}

/// An asset that was not created.
impl From<NewAssetError> for Problem {
    fn from(error: NewAssetError) -> Self {
        match error {
            NewAssetError::ContentNotStored => {
                let detail = "is not stored; upload the content first".into();
                vec![Violation { path: "contentHash".into(), detail }].into()
            }
            NewAssetError::Port(error) => error.into(),
        }
    }
}

/// A move to another tier that was not begun, or not ended.
impl From<MoveError> for Problem {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::NotStored => ProblemType::ContentNotStored.into(),
            MoveError::NoTier(tier) => {
                let detail = format!("there is no {tier} tier on this node").into();
                vec![Violation { path: "tier".to_owned(), detail }].into()
            }
            MoveError::Busy(at) => Self::new(ProblemType::ContentMoving).with("tier", at.to.as_str()),
            MoveError::Damaged => unreadable(&PortError::Corrupt("no copy is good".to_owned())),
            MoveError::Port(error) => error.into(),
        }
    }
}

/// An asset that the node's policy could not judge.
impl From<EvaluationError> for Problem {
    fn from(error: EvaluationError) -> Self {
        match error {
            EvaluationError::Port(error) => error.into(),
            EvaluationError::Missing(_) | EvaluationError::Unreadable(..) => {
                Self::new(ProblemType::PolicyMissing).caused_by(error)
            }
        }
    }
}

/// An asset that the node's policy does not allow.
pub(in crate::http) fn blocked_by(run: &GovernanceRun) -> Problem {
    Problem::new(ProblemType::PolicyBlocked)
        .detail(format!("the policy {} does not allow it", run.policy_id))
        .with("policyId", run.policy_id.as_str())
        .with("policyVersion", run.policy_version)
        .with("versionId", run.version_id.to_string())
        .with("runId", run.run_id.to_string())
        .with("reasons", json!(run.verdict.reasons))
}

/// The text of an id cannot be parsed.
impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::malformed(error.to_string())
    }
}

/// One rule that a value breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the value, as in `policyMeta.license` or `tags[3]`.
    pub path: String,
    pub detail: Cow<'static, str>,
}

/// All rules that a request breaks, at once.
impl From<Vec<Violation>> for Problem {
    fn from(violations: Vec<Violation>) -> Self {
        let errors: Vec<_> =
            violations.iter().map(|broken| json!({ "path": broken.path, "detail": broken.detail })).collect();
        Self::new(ProblemType::ValidationFailed).with("errors", errors)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError as _, http::header};

    use super::*;

    #[test]
    fn a_refusal_that_may_pass_states_when_to_retry() {
        let errors = [
            (PortError::unavailable("database", "refused"), ProblemType::DependencyUnavailable, true),
            (PortError::Fenced, ProblemType::DependencyUnavailable, true),
            (PortError::Full("blob store"), ProblemType::StorageFull, true),
            (PortError::Corrupt("short".into()), ProblemType::ContentUnavailable, true),
            (PortError::rejected("database", "constraint"), ProblemType::Internal, false),
            (PortError::NotFound(Missing::Asset), ProblemType::UnknownAsset, false),
            (PortError::NotFound(Missing::QuotaTier), ProblemType::UnknownTier, false),
            (PortError::NotFound(Missing::Blob), ProblemType::NotFound, false),
        ];
        for (error, kind, retries) in errors {
            let problem = Problem::from(&error);
            assert_eq!(problem.kind(), kind, "{error}");
            assert_eq!(problem.error_response().headers().contains_key(header::RETRY_AFTER), retries, "{error}");
            assert_eq!(problem.cause(), Some(error.to_string().as_str()));
        }
    }
}
