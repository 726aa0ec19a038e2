//! Refusals as problem documents: the one table from the actors' refusals to the contract's problem types.

use std::time::Duration;

use penstock_actors::{
    ports::PortError,
    quota::refusal::{Exhausted, Refusal},
};

use crate::http::{Problem, ProblemType};

/// When to retry if no better time is known.
pub(in crate::http) const SOON: Duration = Duration::from_secs(1);

/// When to retry for content that cannot be read: a person must repair the storage.
const LATER: Duration = Duration::from_secs(60);

/// The problem for a refusal.
pub(crate) fn problem_of(refusal: &Refusal) -> Problem {
    match *refusal {
        Refusal::UnknownReceipt => ProblemType::UnknownReceipt.into(),
        Refusal::NotConfirmed => ProblemType::ReceiptNotConfirmed.into(),
        Refusal::Expired => ProblemType::ReceiptExpired.into(),
        Refusal::Refunded => ProblemType::ReceiptRefunded.into(),
        Refusal::OtherContent => ProblemType::ReceiptForOtherContent.into(),
        Refusal::Consumed => ProblemType::ReceiptConsumed.into(),
        Refusal::ContentNotStored => ProblemType::ContentNotStored.into(),
        Refusal::MediaTypeNotAllowed => ProblemType::MediaTypeNotAllowed.into(),
        Refusal::TooLarge { limit, size } => {
            Problem::new(ProblemType::ContentTooLarge).with("limit", limit).with("size", size)
        }
        Refusal::Quota { window, what, limit, used, remaining, retry_after } => {
            let what = match what {
                Exhausted::Bytes => "bytes",
                Exhausted::Requests => "requests",
            };
            Problem::new(ProblemType::QuotaExceeded)
                .detail(format!("the {what} of this {} do not cover the answer", window.as_str()))
                .with("window", window.as_str())
                .with("unit", what)
                .with("limit", limit)
                .with("used", used)
                .with("remaining", remaining)
                .retry_after(retry_after)
        }
        Refusal::TooManyStreams { limit, active } => Problem::new(ProblemType::TooManyStreams)
            .with("limit", limit)
            .with("used", active)
            .with("remaining", 0)
            .retry_after(SOON),
        Refusal::Overloaded { queue, retry_after } => Problem::new(ProblemType::Overloaded)
            .caused_by(format_args!("the {queue} queue is full"))
            .retry_after(retry_after),
        Refusal::Unavailable { retry_after } => {
            Problem::new(ProblemType::DependencyUnavailable).retry_after(retry_after)
        }
    }
}

/// The problem for stored content that cannot be opened: the index has it, so it is not absent.
pub(in crate::http) fn unreadable(error: &PortError) -> Problem {
    match error {
        PortError::NotFound(_) => Problem::new(ProblemType::ContentUnavailable).caused_by(error).retry_after(LATER),
        PortError::Corrupt(_) => Problem::new(ProblemType::ContentUnavailable)
            .detail("the stored bytes are damaged, and withheld until they are repaired")
            .caused_by(error)
            .retry_after(LATER),
        _ => Problem::from(error),
    }
}
