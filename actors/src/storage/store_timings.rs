//! How long a tier's store takes, and how often it fails, whatever kind of store it is.
//!
//! Content that was not found is no failure of the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    flow::timings::{Timings, TimingsSnapshot},
    model::StorageTier,
    ports::{BlobSource, PortError, PortResult},
};

/// What a store is asked to do with the bytes of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOperation {
    /// To open a copy, with its hash list.
    Open,
    /// To read a part of an open copy, mostly a leaf.
    Read,
    /// To take a part of a new copy.
    Write,
    /// To make a new copy durable and visible.
    Commit,
}

impl StoreOperation {
    /// In the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Open, Self::Read, Self::Write, Self::Commit];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Commit => "commit",
        }
    }
}

/// The times and failures of all tiers.
#[derive(Debug, Default)]
pub struct StoreTimings {
    tiers: [[OperationTimings; StoreOperation::ALL.len()]; StorageTier::ALL.len()],
}

#[derive(Debug, Default)]
struct OperationTimings {
    times: Timings,
    failures: AtomicU64,
}

impl StoreTimings {
    /// Counts an operation that began at `began`.
    pub(super) fn ended<T>(
        &self,
        tier: StorageTier,
        operation: StoreOperation,
        began: Instant,
        outcome: &PortResult<T>,
    ) {
        let counted = self.of(tier, operation);
        counted.times.record(began.elapsed());
        if let Err(error) = outcome
            && !matches!(error, PortError::NotFound(_))
        {
            counted.failures.fetch_add(1, Relaxed);
        }
    }

    /// How long the operations of a kind took in a tier, and how many of them failed.
    pub fn snapshot(&self, tier: StorageTier, operation: StoreOperation) -> (TimingsSnapshot, u64) {
        let counted = self.of(tier, operation);
        (counted.times.snapshot(), counted.failures.load(Relaxed))
    }

    fn of(&self, tier: StorageTier, operation: StoreOperation) -> &OperationTimings {
        &self.tiers[tier as usize][operation as usize]
    }
}

/// The bytes of an open copy, with the time that reads take.
pub(super) struct TimedSource {
    pub(super) source: Arc<dyn BlobSource>,
    pub(super) tier: StorageTier,
    pub(super) timings: Arc<StoreTimings>,
}

#[async_trait]
impl BlobSource for TimedSource {
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let began = Instant::now();
        let read = self.source.read_at(offset, len).await;
        self.timings.ended(self.tier, StoreOperation::Read, began, &read);
        read
    }

    fn is_steady(&self) -> bool {
        self.source.is_steady()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Missing;

    #[test]
    fn what_fails_counts_for_its_tier_and_what_is_not_there_is_no_failure() {
        let timings = StoreTimings::default();
        let count = |outcome| timings.ended::<()>(StorageTier::Warm, StoreOperation::Open, Instant::now(), &outcome);
        count(Ok(()));
        count(Err(PortError::NotFound(Missing::Blob)));
        count(Err(PortError::unavailable("a disk", "it hangs")));
        let counted = |tier, operation| {
            let (times, failures) = timings.snapshot(tier, operation);
            (times.count, failures)
        };
        assert_eq!(counted(StorageTier::Warm, StoreOperation::Open), (3, 1));
        assert_eq!(counted(StorageTier::Hot, StoreOperation::Open), (0, 0));
        assert_eq!(counted(StorageTier::Warm, StoreOperation::Read), (0, 0));
    }
}
