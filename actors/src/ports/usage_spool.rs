//! `UsageSpool`: the usage that the node would have to charge if its process ended now.
//!
//! The spool is on this machine and outlives the process. A stream is noted in it before its bytes are handed over, so that a kill
//! at any moment leaves a note of them. A note is a whole usage row. The last note of a stream counts; the ledger inserts a row once,
//! so a row that was settled before the kill counts once, too.
//!
//! Every call is one short write, or none: the callers are on the path of each stream.

use jiff::Timestamp;

use super::PortResult;
use crate::model::UsageRow;

/// The place of one stream's note in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolKey {
    pub lane: u32,
    pub index: u32,
}

/// The usage of streams that are not settled yet.
pub trait UsageSpool: Send + Sync + 'static {
    /// Whether another stream may begin. Without room the streams that run go on, in the room that is left.
    fn has_room(&self) -> bool;

    /// Notes the row of a stream of which nothing has been sent yet.
    ///
    /// # Errors
    /// The note was not written: the stream must not begin.
    fn begin(&self, row: &UsageRow) -> PortResult<SpoolKey>;

    /// Replaces the note of a stream. If the note cannot be written, the spool records durably that it has a gap
    /// ([`Leftover::complete`]), and the stream may go on.
    ///
    /// # Errors
    /// Neither the note nor the gap was recorded: the bytes that the note explains must not be sent.
    fn renew(&self, key: SpoolKey, row: &UsageRow) -> PortResult<()>;

    /// Forgets a note whose row is durably in the ledger, or set aside there.
    fn settled(&self, key: SpoolKey);

    /// Notes that a stream is not charged, and forgets it.
    fn cancel(&self, key: SpoolKey);

    /// Begins to answer for an epoch of this node, before its first heartbeat: from here on, all of its usage is in the ledger or in
    /// the spool.
    fn epoch_began(&self, epoch: i64);

    /// Forgets an epoch that the ledger has ended.
    fn epoch_ended(&self, epoch: i64);

    /// Removes all notes that are settled. For a node that stops.
    fn stop(&self);

    fn status(&self) -> SpoolStatus;

    /// The time of the oldest note of a stream that is not settled.
    fn oldest(&self) -> Option<Timestamp>;
}

/// What the earlier processes of a node left in its spool.
#[derive(Debug, Default)]
pub struct Leftover {
    /// The last note of each stream. Some of the rows may be in the ledger already.
    pub rows: Vec<(SpoolKey, UsageRow)>,
    /// Epochs of which every row is in the ledger or in `rows`, provably.
    pub complete: Vec<i64>,
}

/// The state of a spool, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    pub bytes: u64,
    pub segments: u64,
    /// Streams that are noted and not settled.
    pub entries: u64,
    pub notes: u64,
    /// Notes and files that could not be written.
    pub write_failures: u64,
    pub sync_failures: u64,
    /// Rows that earlier processes had left.
    pub recovered: u64,
    /// Whether it has no room for another stream.
    pub is_full: bool,
}

/// No spool: a kill loses the rows that are in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSpool;

impl UsageSpool for NoSpool {
    fn has_room(&self) -> bool {
        true
    }

    fn begin(&self, _: &UsageRow) -> PortResult<SpoolKey> {
        Ok(SpoolKey { lane: 0, index: 0 })
    }

    fn renew(&self, _: SpoolKey, _: &UsageRow) -> PortResult<()> {
        Ok(())
    }

    fn settled(&self, _: SpoolKey) {}

    fn cancel(&self, _: SpoolKey) {}

    fn epoch_began(&self, _: i64) {}

    fn epoch_ended(&self, _: i64) {}

    fn stop(&self) {}

    fn status(&self) -> SpoolStatus {
        SpoolStatus::default()
    }

    fn oldest(&self) -> Option<Timestamp> {
        None
    }
}
