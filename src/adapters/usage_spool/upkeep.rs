//! The upkeep of a spool: one thread, off the path of streams.
//!
//! Each round syncs what was written since the last one, removes segments without live notes, makes the segments that lanes will
//! need, and writes old notes again. Nothing waits for it.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Weak,
        atomic::Ordering::{AcqRel, Relaxed},
    },
    thread,
    time::Duration,
};

use super::{
    FileSpool,
    disk::SpoolFile,
    lane::{Pinned, Segment},
    scan::{damaged_name, segment_name},
};

/// Starts the thread. It ends with the spool.
pub(super) fn start(spool: &Arc<FileSpool>, interval: Duration) -> io::Result<()> {
    let spool: Weak<FileSpool> = Arc::downgrade(spool);
    let rounds = move || {
        loop {
            thread::sleep(interval);
            let Some(spool) = spool.upgrade() else { return };
            spool.tend();
        }
    };
    thread::Builder::new().name("usage-spool".to_owned()).spawn(rounds).map(drop)
}

impl FileSpool {
    /// One round.
    pub(super) fn tend(&self) {
        let _one_at_a_time = self.tending.lock();
        let mut shortage = None;
        for lane in 0..self.writers() {
            self.write_again(lane);
            let work = self.lane(lane).work();
            let is_synced = work.to_sync.iter().all(|file| self.sync(lane, &**file));
            if is_synced {
                self.remove_all(lane, work.garbage);
            } else {
                self.lane(lane).sync_again(work.to_sync, work.garbage);
            }
            if work.needs_spare {
                match self.make() {
                    Ok(spare) => self.keep(lane, spare),
                    Err(error) => shortage = Some(error),
                }
            }
        }
        let left = self.lane(self.writers()).work();
        self.remove_all(self.writers(), left.garbage);
        if self.has_new_names.swap(false, AcqRel)
            && let Err(error) = self.disk.sync_names()
        {
            self.has_new_names.store(true, Relaxed);
            self.sync_failed(&error);
        }
        self.note_shortage(shortage);
    }

    fn keep(&self, lane: u32, spare: Segment) {
        let Some(spare) = self.lane(lane).keep_spare(spare) else { return };
        // If it stays, the next start removes it.
        let _ = self.remove(Pinned { number: spare.number(), live: 0, is_damaged: false });
    }

    /// Writes old notes again, in steps between which streams get the lane's lock.
    fn write_again(&self, lane: u32) {
        loop {
            match self.lane(lane).write_again(|| self.make()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "old notes of the usage spool cannot be written again; the next round tries again");
                    return;
                }
            }
        }
    }

    /// Removes segments that a lane has given up, in their order: a later one may say of a stream in an earlier one that it is not
    /// charged.
    fn remove_all(&self, lane: u32, mut garbage: VecDeque<Pinned>) {
        while let Some(&oldest) = garbage.front()
            && self.remove(oldest)
        {
            garbage.pop_front();
        }
        if !garbage.is_empty() {
            self.lane(lane).put_back(garbage);
        }
    }

    /// Removes a segment; false if that failed.
    fn remove(&self, Pinned { number, is_damaged, .. }: Pinned) -> bool {
        let name = segment_name(number);
        let removed = if is_damaged { self.disk.rename(&name, &damaged_name(number)) } else { self.disk.remove(&name) };
        if let Err(error) = removed {
            self.count_failure();
            tracing::debug!(%error, name, "a segment of the usage spool cannot be removed; the next round tries again");
            return false;
        }
        self.segments.fetch_sub(1, AcqRel);
        self.has_new_names.store(true, Relaxed);
        true
    }

    /// Syncs a segment of a lane; false if that failed.
    fn sync(&self, lane: u32, file: &dyn SpoolFile) -> bool {
        let Err(error) = file.sync() else { return true };
        self.lane(lane).give_up_active();
        self.sync_failed(&error);
        false
    }

    /// What was written may be lost, even before a power cut: the kernel drops what a disk does not take.
    fn sync_failed(&self, error: &io::Error) {
        self.counters.sync_failures.fetch_add(1, Relaxed);
        if let Err(error) = self.claims.withdraw(error) {
            tracing::error!(%error, "the usage spool cannot be synced, and cannot withdraw its claims; if the node is killed now, consumers may be charged too little");
        }
    }

    /// Refuses new streams while there is no room, and says when that begins and ends.
    fn note_shortage(&self, shortage: Option<io::Error>) {
        self.is_full.store(shortage.is_some(), Relaxed);
        let was_short = self.is_short.swap(shortage.is_some(), AcqRel);
        match shortage {
            Some(error) if !was_short => {
                tracing::error!(%error, "the usage spool has no room; this node refuses new streams until it has");
            }
            None if was_short => tracing::info!("the usage spool has room again; this node takes new streams"),
            _ => {}
        }
    }
}
