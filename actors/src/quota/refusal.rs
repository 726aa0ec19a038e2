//! Why a stream is refused, in the order in which the reasons are checked. A refused request is charged nothing.

use std::time::Duration;

use crate::model::WindowKind;

/// The dimension of a window that ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    Bytes,
    Requests,
}

/// Why a stream is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    UnknownReceipt,
    /// Paid for, but not confirmed yet.
    NotConfirmed,
    Expired,
    Refunded,
    OtherContent,
    Consumed,
    /// The content is not in the storage index.
    ContentNotStored,
    MediaTypeNotAllowed,
    /// The content is larger than the tier may stream.
    TooLarge {
        limit: u64,
        size: u64,
    },
    /// A window has less left than the answer needs.
    Quota {
        window: WindowKind,
        what: Exhausted,
        limit: u64,
        used: u64,
        remaining: u64,
        retry_after: Duration,
    },
    /// The receipt has as many streams as its policy allows.
    TooManyStreams {
        limit: u32,
        active: u32,
    },
    /// A queue of this node is full.
    Overloaded {
        queue: &'static str,
        retry_after: Duration,
    },
    /// The ledger cannot be reached, and memory does not suffice for a decision.
    Unavailable {
        retry_after: Duration,
    },
}

/// When to come back to a node that is full, or lacks the ledger for a moment.
const SOON: Duration = Duration::from_secs(1);

impl Refusal {
    pub(crate) const fn overloaded(queue: &'static str) -> Self {
        Self::Overloaded { queue, retry_after: SOON }
    }

    pub(crate) const fn unavailable() -> Self {
        Self::Unavailable { retry_after: SOON }
    }
}
