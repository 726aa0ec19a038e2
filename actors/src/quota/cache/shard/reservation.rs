//! A reservation: the obligation to settle, as a guard. However a stream ends, its end is reported exactly once.

use std::sync::{Arc, Weak, atomic::Ordering::Relaxed};

use jiff::Timestamp;

use super::{ShardHandle, messages::ReleaseSlot};
use crate::{
    ids::{ReceiptId, SessionId, UsageId},
    model::{ClientMark, Credit, Outcome, UsageRow},
    ports::{Connection, PortResult},
    quota::{book::Grant, node_epoch::LeaseTime, revocation::Revocation, usage_batcher::RowPermit},
};

/// The result of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEnd {
    /// Payload bytes that are charged.
    pub bytes_sent: u64,
    /// The highest offset delivered: where a session continues.
    pub position: u64,
    pub outcome: Outcome,
}

/// Resources that a stream holds while it runs.
pub(super) struct ReservedStream {
    pub(super) receipt_id: ReceiptId,
    pub(super) stream: UsageId,
    pub(super) session: Option<SessionId>,
    pub(super) client: Option<ClientMark>,
    pub(super) leased: Credit,
    pub(super) lease_epoch: Option<i64>,
    pub(super) started_at: Timestamp,
    /// Present while it holds a slot in the shared state; raised when the slot goes to another stream.
    pub(super) slot: Option<Arc<Revocation>>,
    /// Its last bytes are handed over.
    pub(super) is_leaving: bool,
    pub(super) content_hash: crate::ids::ContentHash,
    pub(super) row_permit: RowPermit,
}

impl ReservedStream {
    /// The usage row of the stream.
    pub(super) const fn row(&self, bytes_sent: u64, outcome: Outcome, finished_at: Timestamp) -> UsageRow {
        UsageRow {
            usage_id: self.stream,
            receipt_id: self.receipt_id,
            content_hash: self.content_hash,
            session_id: self.session,
            client: self.client,
            started_at: self.started_at,
            finished_at,
            bytes_sent,
            requests: 1,
            outcome,
            lease_epoch: self.lease_epoch,
        }
    }
}

/// An admitted stream.
///
/// [`settle`](Self::settle) reports how it ended. Dropping it instead charges nothing: the stream never began.
pub struct Reservation {
    grant: Grant,
    held: Option<ReservedStream>,
    shard: Arc<ShardHandle>,
    /// Present where it took credit from a lease.
    lease_time: Option<LeaseTime>,
}

impl Reservation {
    pub(super) fn new(grant: Grant, held: ReservedStream, shard: Arc<ShardHandle>) -> Self {
        shard.counters.active_streams.fetch_add(1, Relaxed);
        Self { grant, held: Some(held), shard, lease_time: None }
    }

    /// Makes the stream end when this time is over.
    pub(super) fn within(mut self, lease_time: Option<LeaseTime>) -> Self {
        self.lease_time = lease_time;
        self
    }

    pub(super) fn with_slot(mut self, lost: Arc<Revocation>) -> Self {
        if let Some(held) = &mut self.held {
            held.slot = Some(lost);
        }
        self
    }

    /// Has the usage row bear the mark of the client.
    #[must_use]
    pub fn of_client(mut self, client: Option<ClientMark>) -> Self {
        if let Some(held) = &mut self.held {
            held.client = client;
        }
        self
    }

    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether the credit that admitted this stream may have been given to other nodes, so that it must end.
    pub fn lost_its_lease(&self) -> bool {
        self.lease_time.as_ref().is_some_and(LeaseTime::is_over)
    }

    /// Counts that it is about to end because it [`lost_its_lease`](Self::lost_its_lease).
    pub fn count_cut(&self) {
        self.shard.counters.cut.fetch_add(1, Relaxed);
    }

    /// Whether a newer stream of the same session has its slot, so that this one must end.
    pub fn lost_its_slot(&self) -> bool {
        self.slot().is_some_and(|lost| lost.is_raised())
    }

    /// Has the connection cut when the slot goes to another stream.
    pub fn watch_slot(&self, connection: &Weak<dyn Connection>) {
        if let Some(lost) = self.slot() {
            // The only watch, and it ends with the stream.
            lost.watch(connection);
        }
    }

    fn slot(&self) -> Option<&Arc<Revocation>> {
        self.held.as_ref()?.slot.as_ref()
    }

    /// Frees the stream slot ahead of the settlement, when the last piece has been handed over. So a client that has read its
    /// last byte may start the next stream at once: the release is in the shard's mailbox before the byte is on the wire.
    pub fn release_slot(&mut self) {
        if let Some(held) = &mut self.held
            && held.slot.is_some()
            && self.shard.tell(ReleaseSlot(held.stream))
        {
            held.slot = None;
        }
    }

    /// Says that the last bytes are handed over, and the stream ends when they have left the node.
    pub fn leave(&mut self) {
        if let Some(held) = &mut self.held
            && !held.is_leaving
        {
            held.is_leaving = true;
            self.shard.state().book.leave(held.receipt_id);
        }
    }

    /// Notes in the spool what is charged if the process ends now. To be called before the bytes are handed over.
    ///
    /// # Errors
    /// The bytes must not be handed over.
    pub fn note(&mut self, bytes_sent: u64, outcome: Outcome) -> PortResult<()> {
        let now = self.shard.deps.clock.now();
        let Some(held) = &mut self.held else { return Ok(()) };
        let row = held.row(bytes_sent, outcome, now);
        held.row_permit.spooled.note(&row)
    }

    pub fn settle(mut self, ended: StreamEnd) {
        self.end(ended);
    }

    /// Ends it and charges the whole reservation: another server delivers the content. The session's position stays as
    /// it was, since this node does not see how far the client gets.
    ///
    /// # Errors
    /// The charge was not noted, so nothing may be handed over. Nothing is charged.
    pub fn delegate(mut self) -> PortResult<()> {
        let bytes_sent = self.grant.reserved.bytes;
        self.note(bytes_sent, Outcome::Delegated)?;
        self.end(StreamEnd { bytes_sent, position: 0, outcome: Outcome::Delegated });
        Ok(())
    }

    fn end(&mut self, ended: StreamEnd) {
        if let Some(held) = self.held.take() {
            self.shard.settle(held, ended);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(StreamEnd { bytes_sent: 0, position: 0, outcome: Outcome::Aborted });
    }
}
