//! A spool in memory, which outlives the node of a test and fails by command.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::{
    model::UsageRow,
    ports::{Leftover, PortError, PortResult, SpoolKey, SpoolStatus, UsageSpool},
};

#[derive(Debug, Default)]
struct Notes {
    rows: BTreeMap<u32, UsageRow>,
    last: u32,
    epochs: BTreeSet<i64>,
    notes: u64,
    is_full: bool,
    fails: bool,
    is_gone: bool,
}

/// A spool whose notes a test can read.
#[derive(Debug, Clone, Default)]
pub struct MemorySpool(Arc<Mutex<Notes>>);

fn failed() -> PortError {
    PortError::unavailable("the usage spool", "the test said so")
}

impl MemorySpool {
    fn state(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next process would find.
    pub fn left(&self) -> Leftover {
        let state = self.state();
        let rows = state.rows.iter().map(|(&index, row)| (SpoolKey { lane: 0, index }, row.clone())).collect();
        Leftover { rows, complete: state.epochs.iter().copied().collect() }
    }

    /// Leaves no room for further streams, or has room again.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Fails every note from now on, and records gaps.
    pub fn set_failing(&self, fails: bool) {
        self.state().fails = fails;
    }

    /// Fails every note from now on, and cannot even record gaps.
    pub fn set_gone(&self, is_gone: bool) {
        self.state().is_gone = is_gone;
    }
}

impl UsageSpool for MemorySpool {
    fn has_room(&self) -> bool {
        !self.state().is_full
    }

    fn begin(&self, row: &UsageRow) -> PortResult<SpoolKey> {
        let mut state = self.state();
        if state.fails || state.is_gone {
            return Err(failed());
        }
        state.last += 1;
        state.notes += 1;
        let index = state.last;
        state.rows.insert(index, row.clone());
        Ok(SpoolKey { lane: 0, index })
    }

    fn renew(&self, key: SpoolKey, row: &UsageRow) -> PortResult<()> {
        let mut state = self.state();
        if state.is_gone {
            return Err(failed());
        }
        if state.fails {
            state.epochs.clear();
            return Ok(());
        }
        state.notes += 1;
        state.rows.insert(key.index, row.clone());
        Ok(())
    }

    fn settled(&self, key: SpoolKey) {
        self.state().rows.remove(&key.index);
    }

    fn cancel(&self, key: SpoolKey) {
        self.settled(key);
    }

    fn epoch_began(&self, epoch: i64) {
        self.state().epochs.insert(epoch);
    }

    fn epoch_ended(&self, epoch: i64) {
        self.state().epochs.remove(&epoch);
    }

    fn stop(&self) {}

    fn status(&self) -> SpoolStatus {
        let state = self.state();
        SpoolStatus {
            entries: state.rows.len() as u64,
            notes: state.notes,
            is_full: state.is_full,
            ..SpoolStatus::default()
        }
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.state().rows.values().map(|row| row.finished_at).min()
    }
}
