//! The usage spool in a folder of the node's: an append-only log of notes, in segments.
//!
//! What the kernel has taken with a write outlives every kill of the process, so a note costs one write into the page cache and no
//! wait for a disk. A thread of the spool makes the notes outlive a power cut, some time later (`usage.spool_sync`).
//!
//! [`record`] is the format of a note. Streams are spread over some [`lane`]s, each with a lock and segments of its own; a stream stays
//! on its lane. [`scan`](mod@scan) reads what earlier processes left, and [`claims`] say for which epochs that is all. [`upkeep`] syncs, removes
//! old segments, and makes new ones before they are needed. [`disk`] is the folder.
//!
//! **Bound.** `usage.spool_bytes` for all segments together. When no further segment can be made, because of the bound or because the
//! disk is full, no new stream begins; the streams that run have at least half a segment of each lane.
//!
//! **When a note cannot be written**, the spool withdraws its claims, so that after a kill the leases of the epoch stay charged or
//! released as [`LostLease`](penstock_actors::model::LostLease) says, and the stream goes on.

mod claims;
mod disk;
mod lane;
pub(crate) mod record;
mod scan;
#[cfg(test)]
mod simulated_disk;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use jiff::Timestamp;
use penstock_actors::{
    ids::NodeId,
    model::UsageRow,
    ports::{Leftover, PortError, PortResult, SpoolKey, SpoolStatus, UsageSpool},
};

use self::{
    claims::Claims,
    disk::{RealDisk, SpoolDisk},
    lane::{Lane, SEGMENT_BYTES, Segment},
    record::{Origin, RECORD_BYTES},
    scan::{Found, scan, segment_name},
};

/// More lanes than this would not make a node faster: a note takes about a microsecond.
const LANES_AT_MOST: usize = 4;

/// The spool of a node, and where it is.
#[derive(Debug, Clone)]
pub struct UsageSpoolSettings {
    pub node: NodeId,
    /// Identifies the data folder on this machine since its last start; `None` if the system does not.
    pub place: Option<String>,
    /// Whether the folder provably is the one that the last process had, on a machine that has run since.
    pub is_same_folder: bool,
    /// The bound of all segments together.
    pub bytes: u64,
    /// Threads that serve streams.
    pub cores: usize,
}

#[derive(Debug, Default)]
struct Counters {
    notes: AtomicU64,
    write_failures: AtomicU64,
    sync_failures: AtomicU64,
}

/// The spool.
pub struct FileSpool {
    disk: Arc<dyn SpoolDisk>,
    origin: Origin,
    /// The last one has what earlier processes left.
    lanes: Box<[Mutex<Lane>]>,
    claims: Claims,
    last_segment: AtomicU64,
    segments: AtomicU64,
    segment_bytes: u64,
    most_segments: u64,
    is_full: AtomicBool,
    /// The last round of the upkeep found no room.
    is_short: AtomicBool,
    /// Files were made or removed since the names were synced.
    has_new_names: AtomicBool,
    tending: Mutex<()>,
    counters: Counters,
    recovered: u64,
}

impl FileSpool {
    /// Opens the spool in a folder, and begins to sync it with this interval.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written.
    pub fn open(folder: &Path, settings: UsageSpoolSettings, sync: Duration) -> io::Result<(Arc<Self>, Leftover)> {
        let (spool, left) = Self::over(Arc::new(RealDisk::open(folder)?), settings, SEGMENT_BYTES)?;
        let spool = Arc::new(spool);
        upkeep::start(&spool, sync)?;
        Ok((spool, left))
    }

    fn over(
        disk: Arc<dyn SpoolDisk>,
        settings: UsageSpoolSettings,
        segment_bytes: u64,
    ) -> io::Result<(Self, Leftover)> {
        let UsageSpoolSettings { node, place, is_same_folder, bytes, cores } = settings;
        let mark = place.map(|place| format!("{node} {place}"));
        let origin = Origin { node, place: mark.as_ref().map_or(0, |mark| crc32fast::hash(mark.as_bytes())) };
        let names = disk.names()?;
        let Found { rows, segments, is_damaged, last } = scan(&*disk, &names, origin)?;
        if is_damaged {
            tracing::error!(
                "the usage spool has damaged records; the files are kept under names that end in .damaged, and the leases of the last process stay charged or released as lost"
            );
        }
        let claims = Claims::new(Arc::clone(&disk), mark);
        let complete = claims.of_earlier_processes(&names, is_same_folder && !is_damaged)?;
        let slots = segment_bytes as usize / RECORD_BYTES;
        let writers = cores.clamp(1, LANES_AT_MOST);
        let (recovered, files) = (rows.len() as u64, segments.len() as u64);
        let mut lanes: Vec<_> = std::iter::repeat_with(|| Mutex::new(Lane::new(slots))).take(writers).collect();
        lanes.push(Mutex::new(Lane::left(segments, rows.into_iter())));
        let spool = Self {
            disk,
            origin,
            lanes: lanes.into(),
            claims,
            last_segment: AtomicU64::new(last),
            segments: AtomicU64::new(files),
            segment_bytes,
            most_segments: bytes / segment_bytes,
            is_full: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            has_new_names: AtomicBool::new(true),
            tending: Mutex::default(),
            counters: Counters::default(),
            recovered,
        };
        spool.tend();
        let lane = writers as u32;
        let rows = spool.lane(lane).rows().map(|(index, row)| (SpoolKey { lane, index }, row.clone())).collect();
        Ok((spool, Leftover { rows, complete }))
    }

    fn lane(&self, lane: u32) -> MutexGuard<'_, Lane> {
        let lane = &self.lanes[(lane as usize).min(self.lanes.len() - 1)];
        lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lanes are written to.
    fn writers(&self) -> u32 {
        (self.lanes.len() - 1) as u32
    }

    /// Makes a segment, within the bound.
    fn make(&self) -> io::Result<Segment> {
        let more = |segments: u64| (segments < self.most_segments).then_some(segments + 1);
        if self.segments.fetch_update(AcqRel, Acquire, more).is_err() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "usage.spool_bytes is reached"));
        }
        let number = self.last_segment.fetch_add(1, AcqRel) + 1;
        let name = segment_name(number);
        let made = self.disk.create(&name, self.segment_bytes).and_then(|file| {
            let slots = self.segment_bytes as usize / RECORD_BYTES;
            Segment::begin(self.origin, number, slots, file)
        });
        self.has_new_names.store(true, Relaxed);
        if made.is_err() {
            self.segments.fetch_sub(1, AcqRel);
            // It may not exist. If it stays, the next start removes it.
            drop(self.disk.remove(&name));
        }
        made
    }

    fn count_failure(&self) {
        self.counters.write_failures.fetch_add(1, Relaxed);
    }
}

fn unavailable(error: io::Error) -> PortError {
    PortError::unavailable("the usage spool", error)
}

impl UsageSpool for FileSpool {
    fn has_room(&self) -> bool {
        !self.is_full.load(Acquire)
    }

    fn begin(&self, row: &UsageRow) -> PortResult<SpoolKey> {
        // The last bytes of the id are random, so they spread streams evenly.
        let lane = row.usage_id.as_uuid().as_u128() as u32 % self.writers();
        let index = self.lane(lane).begin(row, || self.make()).map_err(|error| {
            self.count_failure();
            self.is_full.store(true, Relaxed);
            unavailable(error)
        })?;
        self.counters.notes.fetch_add(1, Relaxed);
        Ok(SpoolKey { lane, index })
    }

    fn renew(&self, key: SpoolKey, row: &UsageRow) -> PortResult<()> {
        let written = self.lane(key.lane).renew(key.index, row, || self.make());
        let Err(error) = written else {
            self.counters.notes.fetch_add(1, Relaxed);
            return Ok(());
        };
        self.count_failure();
        self.is_full.store(true, Relaxed);
        self.claims.withdraw(&error).map_err(|_| unavailable(error))
    }

    fn settled(&self, key: SpoolKey) {
        self.lane(key.lane).settled(key.index);
    }

    fn cancel(&self, key: SpoolKey) {
        if let Err(error) = self.lane(key.lane).cancel(key.index, || self.make()) {
            self.count_failure();
            tracing::warn!(%error, "the usage spool cannot note that a stream is not charged; if the node is killed soon, the stream's first piece is charged");
        }
    }

    fn epoch_began(&self, epoch: i64) {
        self.claims.begin(epoch);
    }

    fn epoch_ended(&self, epoch: i64) {
        self.claims.end(epoch);
    }

    fn stop(&self) {
        for lane in 0..=self.writers() {
            self.lane(lane).clear();
        }
        self.tend();
    }

    fn status(&self) -> SpoolStatus {
        let segments = self.segments.load(Acquire);
        SpoolStatus {
            bytes: segments * self.segment_bytes,
            segments,
            entries: (0..=self.writers()).map(|lane| self.lane(lane).live() as u64).sum(),
            notes: self.counters.notes.load(Relaxed),
            write_failures: self.counters.write_failures.load(Relaxed),
            sync_failures: self.counters.sync_failures.load(Relaxed),
            recovered: self.recovered,
            is_full: self.is_full.load(Acquire),
        }
    }

    fn oldest(&self) -> Option<Timestamp> {
        (0..=self.writers()).filter_map(|lane| self.lane(lane).oldest()).min()
    }
}
