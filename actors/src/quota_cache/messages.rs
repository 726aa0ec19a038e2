//! What is said to a shard of the quota cache.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{
    Reservation,
    reservation::{Ended, Held},
};
use crate::{
    admission::Permit,
    ids::{ReceiptId, SessionId, UsageId},
    quota_book::{Ask, Grant},
    refusal::Refusal,
};

/// A question, with its place in the queue.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Acquire {
    pub(super) ask: Ask,
    pub(super) purpose: Purpose,
    pub(super) deadline: Instant,
    pub(super) _permit: Permit,
}

/// What an answer is for.
pub(super) enum Purpose {
    Inspect {
        reply: oneshot::Sender<Result<Grant, Refusal>>,
    },
    Stream {
        stream: UsageId,
        session: Option<SessionId>,
        usage_permit: Permit,
        reply: oneshot::Sender<Result<Reservation, Refusal>>,
    },
}

impl Acquire {
    /// Whether nobody waits for the answer any more: its time is over, or whoever asked has left.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        let left = match &self.purpose {
            Purpose::Inspect { reply } => reply.is_closed(),
            Purpose::Stream { reply, .. } => reply.is_closed(),
        };
        left || self.deadline <= now
    }
}

/// The end of a stream, on its way to the shard that let it in.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Settle {
    pub(super) held: Held,
    pub(super) ended: Ended,
}

/// Gives the slot of a stream back before its end is told.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct ReleaseSlot {
    pub(super) receipt_id: ReceiptId,
    pub(super) stream: UsageId,
}

/// Something that decisions depend on has changed.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) enum Invalidate {
    Receipt(ReceiptId),
    /// `None` is every policy.
    Policy(Option<String>),
}

/// Another instance has a use for what lies idle here.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Recall(pub(super) ReceiptId);

/// The leases of this node are gone.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct Forfeit;

/// Answer when all that was said before has been handled.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct CatchUp {
    pub(super) reply: oneshot::Sender<()>,
}

/// Give every lease back.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(super) struct DrainLeases {
    pub(super) reply: oneshot::Sender<()>,
}
