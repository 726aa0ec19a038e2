//! The messages to a shard of the quota cache.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Reservation;
use crate::{
    flow::admission::Permit,
    ids::{ReceiptId, UsageId},
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
pub(super) struct Acquire {
    pub(super) ask: StreamAsk,
    pub(super) purpose: Purpose,
    pub(super) deadline: Instant,
    pub(super) _permit: Permit,
}

/// The purpose of a question.
pub(super) enum Purpose {
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
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
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
pub(super) enum Invalidate {
    Receipt(ReceiptId),
    /// `None` means every policy.
    QuotaPolicy(Option<String>),
}

/// Another instance needs the idle credit of this one.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Recall(pub(super) ReceiptId);

/// A newer stream of the same session needs the slot of this stream.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct EndStream(pub(super) UsageId);

/// The leases of this node are gone.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Forfeit {
    /// Whether the ledger fenced their epoch, rather than a new timeline ended it.
    pub(super) fenced: bool,
}

/// Asks for an answer once all earlier messages have been handled.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct CatchUp {
    pub(super) reply: oneshot::Sender<()>,
}

/// Asks for every lease to be given back.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct DrainLeases {
    pub(super) reply: oneshot::Sender<()>,
}
