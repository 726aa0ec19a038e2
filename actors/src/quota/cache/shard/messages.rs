//! The messages to a shard of the quota cache.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Reservation;
use crate::{
    flow::admission::Permit,
    ids::{ReceiptId, SessionId, UsageId},
    model::StreamSession,
    quota::{
        book::{Grant, StreamAsk},
        refusal::Refusal,
        usage_batcher::RowPermit,
    },
};

/// A question, with its permit of the queue.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct Acquire {
    pub(in crate::quota::cache) ask: StreamAsk,
    pub(in crate::quota::cache) purpose: Purpose,
    pub(in crate::quota::cache) deadline: Instant,
    pub(in crate::quota::cache) _permit: Permit,
}

/// The purpose of a question.
pub(in crate::quota::cache) enum Purpose {
    Inspect {
        reply: oneshot::Sender<Result<Grant, Refusal>>,
    },
    Stream {
        stream: UsageId,
        session: StreamSession,
        row_permit: RowPermit,
        reply: oneshot::Sender<Result<Reservation, Refusal>>,
    },
}

impl Acquire {
    /// Whether the answer is no longer awaited: the question timed out, or its client has left.
    pub(in crate::quota::cache) fn is_abandoned(&self, now: Instant) -> bool {
        let left = match &self.purpose {
            Purpose::Inspect { reply } => reply.is_closed(),
            Purpose::Stream { reply, .. } => reply.is_closed(),
        };
        left || self.deadline <= now
    }
}

/// An input of decisions has changed.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) enum Invalidate {
    Receipt(ReceiptId),
    /// `None` means every policy.
    QuotaPolicy(Option<String>),
}

/// Another instance needs the idle credit of this one.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct Recall(pub(in crate::quota::cache) ReceiptId);

/// A newer stream of the same session needs the slot of this stream.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct EndStream(pub(in crate::quota::cache) UsageId);

/// The leases of this node are gone.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct Forfeit {
    /// Whether the ledger fenced their epoch, rather than a new timeline ended it.
    pub(in crate::quota::cache) fenced: bool,
}

/// A stream of a session has ended, and says how far its client got.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct AddProgress {
    pub(in crate::quota::cache) session: SessionId,
    pub(in crate::quota::cache) bytes: u64,
    pub(in crate::quota::cache) position: u64,
}

/// A stream gives back its slot, before its end is reported.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct ReleaseSlot(pub(in crate::quota::cache) UsageId);

/// Asks for every lease to be given back.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(in crate::quota::cache) struct DrainLeases {
    pub(in crate::quota::cache) reply: oneshot::Sender<()>,
}
