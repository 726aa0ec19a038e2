//! What waits for the ledger: rows with what they hold until they are durable, and releases.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use super::UsageCounters;
use crate::{
    flow::admission::Permit,
    model::{Credit, UsageRow},
    ports::Release,
    quota::{epoch_work::EpochWork, spooled_row::SpooledRow},
};

/// A row that waits for its batch.
pub(super) struct PendingRow {
    pub(super) row: UsageRow,
    /// When its stream had ended.
    pub(super) since: Instant,
    /// The part of it that was leased.
    pub(super) spent: Credit,
    /// Held until the row is durably in the ledger.
    pub(super) permit: RowPermit,
}

/// What a stream holds from its admission until its row is durably in the ledger.
#[derive(Debug)]
pub struct RowPermit {
    pub queue: Permit,
    /// For a stream that took credit from a lease.
    pub epoch: Option<EpochWork>,
    pub spooled: SpooledRow,
}

impl RowPermit {
    /// Its row is durably in the ledger.
    pub(super) fn settled(self) {
        self.spooled.settled();
    }

    /// Its row is lost in this process. The spool keeps its note, and its epoch is not ended.
    pub(super) fn lose(self) {
        self.epoch.into_iter().for_each(EpochWork::lose);
    }
}

/// What the batcher takes over.
pub(super) enum UsageItem {
    Row(Box<PendingRow>),
    Release(Release),
}

impl UsageItem {
    /// Drops what no batcher takes any more. The lease of a release is reclaimed with this node's epoch.
    pub(super) fn lose(self, counters: &UsageCounters) {
        let Self::Row(lost) = self else { return };
        counters.dropped.fetch_add(1, Relaxed);
        tracing::error!(row = ?lost.row, "the usage batcher is gone, so this row is not settled; the next start settles it from the usage spool");
        lost.permit.lose();
    }
}

/// Rows with their permits, and releases, that go to the ledger together.
pub(super) struct PendingBatch {
    pub(super) rows: Vec<PendingRow>,
    pub(super) releases: Vec<Release>,
    /// Every release up to this number is in this load or in an earlier one.
    pub(super) releases_until: u64,
}

impl PendingBatch {
    /// All of its rows are durably in the ledger.
    pub(super) fn settled(self) {
        self.rows.into_iter().for_each(|record| record.permit.settled());
    }

    /// Two smaller loads, if this one has more than one item. Releases go after all rows, as in any batch.
    pub(super) fn halve(self) -> (Self, Self) {
        let Self { mut rows, mut releases, releases_until } = self;
        let (late_rows, late_releases) = match rows.len() {
            0 => (Vec::new(), releases.split_off(releases.len() / 2)),
            1 => (Vec::new(), std::mem::take(&mut releases)),
            many => (rows.split_off(many / 2), std::mem::take(&mut releases)),
        };
        let later = Self { rows: late_rows, releases: late_releases, releases_until };
        (Self { rows, releases, releases_until: 0 }, later)
    }
}
