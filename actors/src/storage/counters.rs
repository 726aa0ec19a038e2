//! The counters of verification, repair and moves of stored copies, which the node exports as metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::{Finding, StorageTier};

/// The counters of verification, repair and moves. `findings` has a row for each finding, in the order of
/// [`Finding::ALL`].
#[derive(Debug, Default)]
pub struct StorageCounters {
    /// Bytes that were read and hashed to verify copies.
    pub verified_bytes: AtomicU64,
    pub findings: [AtomicU64; Finding::ALL.len()],
    pub repaired: AtomicU64,
    /// Contents that could not be verified.
    pub failed: AtomicU64,
    /// Contents moved to another tier, in the order of [`StorageTier::ALL`].
    pub moved: [AtomicU64; StorageTier::ALL.len()],
    pub moved_bytes: AtomicU64,
    pub moves_failed: AtomicU64,
    /// When the last complete lap of the walk over all content began, in seconds since 1970; 0 before there is one.
    pub whole_lap_began_at: AtomicU64,
}

impl StorageCounters {
    pub(super) fn found(&self, finding: Finding) {
        self.findings[finding as usize].fetch_add(1, Relaxed);
    }
}
