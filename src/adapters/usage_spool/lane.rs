//! A lane: the notes of some of the streams, in segments of its own.
//!
//! A lane writes to its newest segment. Segments are removed from the oldest on, when no live note is in them; so a note that says
//! that a stream is not charged outlives every earlier note of the stream. A live note in an old segment is written again into the
//! newest one, when old segments become many.
//!
//! **Bound.** One entry for each stream that runs or waits for settlement, which the usage queue bounds. The number of segments is
//! bounded for all lanes together.

mod age_order;

use std::{collections::VecDeque, io, sync::Arc};

use jiff::Timestamp;
use penstock_actors::model::UsageRow;

use self::age_order::AgeOrder;
use super::{
    disk::SpoolFile,
    record::{Origin, RECORD_BYTES, Record, Seal},
};

/// The size of a segment: it holds some 8,000 notes, and a full disk is noticed half a segment ahead.
pub(super) const SEGMENT_BYTES: u64 = 1 << 20;

/// Segments that a lane may have before it writes old notes again, besides four times what its live notes need. So each note is
/// written again at most once for every three segments of new ones.
const SEGMENTS_AT_REST: usize = 4;

/// Notes that are written again under one hold of the lane's lock: less than a millisecond.
const AGAIN_STEP: usize = 256;

/// The segment that a lane writes to.
pub(super) struct Segment {
    number: u64,
    file: Arc<dyn SpoolFile>,
    seal: Seal,
    used: usize,
    slots: usize,
    is_broken: bool,
}

impl Segment {
    /// Begins a file of `slots` records that was just made.
    pub(super) fn begin(origin: Origin, number: u64, slots: usize, file: Arc<dyn SpoolFile>) -> io::Result<Self> {
        let seal = Seal::new(origin.node, number);
        file.write_at(&seal.first(origin, number), 0)?;
        Ok(Self { number, file, seal, used: 1, slots, is_broken: false })
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    const fn is_full(&self) -> bool {
        self.used >= self.slots || self.is_broken
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let written = self.file.write_at(record, (self.used * RECORD_BYTES) as u64);
        match &written {
            Ok(()) => self.used += 1,
            // The slot may have a part of the record, and further writes may fail too.
            Err(_) => self.is_broken = true,
        }
        written
    }
}

/// A segment, and how many live notes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) number: u64,
    pub(super) live: u32,
    /// It is kept for an operator when it is no longer needed.
    pub(super) is_damaged: bool,
}

#[derive(Debug)]
struct Entry {
    row: UsageRow,
    segment: u64,
}

#[derive(Default)]
pub(super) struct Lane {
    /// Records of a segment.
    slots: usize,
    active: Option<Segment>,
    spare: Option<Segment>,
    /// The oldest first; the last one is active.
    segments: VecDeque<Pinned>,
    entries: Vec<Option<Entry>>,
    ages: AgeOrder,
    free: Vec<u32>,
    live: usize,
    /// Segments that were full before they were synced.
    unsynced: Vec<Arc<dyn SpoolFile>>,
    is_dirty: bool,
    garbage: VecDeque<Pinned>,
}

/// Work of the upkeep on one lane.
pub(super) struct LaneWork {
    pub(super) to_sync: Vec<Arc<dyn SpoolFile>>,
    /// Segments that are to be removed, in this order, once the above is synced: only then are the notes that replace theirs durable.
    pub(super) garbage: VecDeque<Pinned>,
    pub(super) needs_spare: bool,
}

impl Lane {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, ..Self::default() }
    }

    /// A lane of what earlier processes left: it is not written to.
    pub(super) fn left(segments: VecDeque<Pinned>, rows: impl Iterator<Item = (UsageRow, u64)>) -> Self {
        let entries: Vec<_> = rows.map(|(row, segment)| Some(Entry { row, segment })).collect();
        let mut lane = Self { live: entries.len(), segments, entries, ..Self::default() };
        let mut by_age: Vec<_> = lane.rows().map(|(index, row)| (row.finished_at, index)).collect();
        by_age.sort_unstable();
        by_age.into_iter().for_each(|(_, index)| lane.ages.push(index));
        for index in 0..lane.entries.len() {
            if let Some(number) = lane.entries[index].as_ref().map(|entry| entry.segment) {
                lane.pin(number);
            }
        }
        lane.reap();
        lane
    }

    /// Notes a new row; returns its index. `make` makes a segment, if none is there.
    pub(super) fn begin(&mut self, row: &UsageRow, make: impl FnOnce() -> io::Result<Segment>) -> io::Result<u32> {
        let segment = self.write(|seal| seal.row(row), make)?;
        let entry = Some(Entry { row: row.clone(), segment });
        self.pin(segment);
        self.live += 1;
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.ages.push(index);
        Ok(index)
    }

    /// Replaces a row. It is remembered even if it cannot be written.
    pub(super) fn renew(
        &mut self,
        index: u32,
        row: &UsageRow,
        make: impl FnOnce() -> io::Result<Segment>,
    ) -> io::Result<()> {
        let written = self.write(|seal| seal.row(row), make);
        let Some(Some(entry)) = self.entries.get_mut(index as usize) else { return written.map(drop) };
        // A note that is only written again is as old as before.
        if row.finished_at > entry.row.finished_at {
            self.ages.remove(index);
            self.ages.push(index);
        }
        entry.row = row.clone();
        let segment = written?;
        let before = std::mem::replace(&mut entry.segment, segment);
        self.move_pin(before, segment);
        Ok(())
    }

    pub(super) fn settled(&mut self, index: u32) {
        self.take(index);
    }

    /// Notes that a row is not charged, and forgets it.
    pub(super) fn cancel(&mut self, index: u32, make: impl FnOnce() -> io::Result<Segment>) -> io::Result<()> {
        let Some(row) = self.take(index) else { return Ok(()) };
        self.write(|seal| seal.not_charged(row.usage_id), make).map(drop)
    }

    fn take(&mut self, index: u32) -> Option<UsageRow> {
        let Entry { row, segment } = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        self.ages.remove(index);
        self.live -= 1;
        self.unpin(segment);
        Some(row)
    }

    /// Writes a record into the active segment; returns the segment's number.
    fn write(
        &mut self,
        record: impl FnOnce(&Seal) -> Record,
        make: impl FnOnce() -> io::Result<Segment>,
    ) -> io::Result<u64> {
        if self.active.as_ref().is_none_or(Segment::is_full) {
            let next = match self.spare.take() {
                Some(spare) => spare,
                None => make()?,
            };
            self.turn_to(next);
        }
        let Some(active) = &mut self.active else { return Err(io::ErrorKind::NotFound.into()) };
        let record = record(&active.seal);
        active.write(&record)?;
        self.is_dirty = true;
        Ok(active.number)
    }

    fn turn_to(&mut self, next: Segment) {
        self.segments.push_back(Pinned { number: next.number, live: 0, is_damaged: false });
        if let Some(full) = self.active.replace(next)
            && std::mem::take(&mut self.is_dirty)
        {
            self.unsynced.push(full.file);
        }
        self.reap();
    }

    fn pinned(&mut self, number: u64) -> Option<&mut Pinned> {
        // Mostly one of the newest.
        self.segments.iter_mut().rev().find(|segment| segment.number == number)
    }

    fn pin(&mut self, number: u64) {
        if let Some(segment) = self.pinned(number) {
            segment.live += 1;
        }
    }

    fn unpin(&mut self, number: u64) {
        if let Some(segment) = self.pinned(number) {
            segment.live -= 1;
        }
        self.reap();
    }

    fn move_pin(&mut self, from: u64, to: u64) {
        if from != to {
            self.pin(to);
            self.unpin(from);
        }
    }

    /// Gives up the oldest segments that have no live note.
    fn reap(&mut self) {
        let active = self.active.as_ref().map(Segment::number);
        while let Some(&oldest) = self.segments.front()
            && oldest.live == 0
            && Some(oldest.number) != active
        {
            self.segments.pop_front();
            self.garbage.push_back(oldest);
        }
    }

    /// What the upkeep has to do for a lane that is written to.
    pub(super) fn work(&mut self) -> LaneWork {
        let mut to_sync = std::mem::take(&mut self.unsynced);
        if let Some(active) = &self.active
            && std::mem::take(&mut self.is_dirty)
        {
            to_sync.push(Arc::clone(&active.file));
        }
        let is_half_full = self.active.as_ref().is_none_or(|active| active.is_broken || active.used > active.slots / 2);
        let needs_spare = self.spare.is_none() && is_half_full;
        LaneWork { to_sync, garbage: std::mem::take(&mut self.garbage), needs_spare }
    }

    /// Takes back what could not be synced, and what must wait for that.
    pub(super) fn sync_again(&mut self, files: Vec<Arc<dyn SpoolFile>>, garbage: VecDeque<Pinned>) {
        self.unsynced.extend(files);
        self.put_back(garbage);
    }

    /// Takes back what could not be removed; it is older than all that was given up since.
    pub(super) fn put_back(&mut self, mut garbage: VecDeque<Pinned>) {
        garbage.append(&mut self.garbage);
        self.garbage = garbage;
    }

    /// Keeps a segment for later; gives it back if there is one already, or if a later one is in use: a reader takes the notes in the
    /// order of the segments' numbers.
    pub(super) fn keep_spare(&mut self, segment: Segment) -> Option<Segment> {
        if self.spare.is_some() || self.active.as_ref().is_some_and(|active| active.number > segment.number) {
            return Some(segment);
        }
        self.spare = Some(segment);
        None
    }

    /// The active segment's data may be lost: further notes go to another one.
    pub(super) fn give_up_active(&mut self) {
        if let Some(active) = &mut self.active {
            active.is_broken = true;
        }
    }

    /// Writes some live notes of the oldest segment again, if there are too many segments. Returns whether more is to be done.
    pub(super) fn write_again(&mut self, mut make: impl FnMut() -> io::Result<Segment>) -> io::Result<bool> {
        if self.segments.len() <= SEGMENTS_AT_REST + 4 * self.live.div_ceil(self.slots.max(1)) {
            return Ok(false);
        }
        let Some(&Pinned { number: oldest, .. }) = self.segments.front() else { return Ok(false) };
        let old: Vec<usize> = (0..self.entries.len())
            .filter(|&index| self.entries[index].as_ref().is_some_and(|entry| entry.segment == oldest))
            .take(AGAIN_STEP)
            .collect();
        if old.is_empty() {
            return Ok(false);
        }
        for index in old {
            let Some(row) = self.entries[index].as_ref().map(|entry| entry.row.clone()) else { continue };
            self.renew(index as u32, &row, &mut make)?;
        }
        Ok(true)
    }

    /// Gives up everything, if no note is live. For a node that stops.
    pub(super) fn clear(&mut self) {
        if self.live > 0 {
            return;
        }
        self.active = None;
        self.is_dirty = false;
        self.unsynced.clear();
        self.reap();
        let spare = self.spare.take().map(|spare| Pinned { number: spare.number, live: 0, is_damaged: false });
        self.garbage.extend(spare);
    }

    pub(super) const fn live(&self) -> usize {
        self.live
    }

    /// The time of the oldest live note.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let entry = self.entries.get(self.ages.oldest()? as usize)?;
        Some(entry.as_ref()?.row.finished_at)
    }

    /// Each row with its index.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, &UsageRow)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| Some((index as u32, &entry.as_ref()?.row)))
    }
}
