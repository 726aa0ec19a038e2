//! Reading what earlier processes left.
//!
//! Segments are read in the order of their numbers. All notes of a stream are in one lane, whose segments have growing numbers, so the
//! last note that is read is the last that was written. A slot that cannot be read is skipped: it does not change what the others say.

use std::{
    collections::{HashMap, VecDeque},
    io,
};

use penstock_actors::{ids::UsageId, model::UsageRow};

use super::{
    disk::SpoolDisk,
    lane::Pinned,
    record::{Note, Origin, RECORD_BYTES, Seal, Slot, origin_of},
};

const SUFFIX: &str = ".notes";
const DAMAGED: &str = ".damaged";

pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The name under which a damaged segment is kept for an operator.
pub(super) fn damaged_name(number: u64) -> String {
    format!("{number:016x}{DAMAGED}")
}

fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()
}

/// The number of a segment, also of one that is kept under another name.
fn number_in(name: &str) -> Option<u64> {
    let (number, kind) = name.split_once('.')?;
    let is_segment = SUFFIX.ends_with(kind) || DAMAGED.ends_with(kind) || kind.starts_with("notes.of-");
    u64::from_str_radix(number, 16).ok().filter(|_| is_segment)
}

/// What was found in the folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The last note of each stream that may have to be charged, with the segment that has it.
    pub(super) rows: Vec<(UsageRow, u64)>,
    pub(super) segments: VecDeque<Pinned>,
    /// Some segment has a bad record before a good one.
    pub(super) is_damaged: bool,
    /// The largest number that any segment here has had.
    pub(super) last: u64,
}

/// Reads all segments of this node. Those of another node are kept aside: its own folder has what it sent later, and the ledger would
/// take the first row that it gets for a stream.
///
/// After a power cut, pages are missing as the disk pleases. In a segment that was written `here`, since the machine's last start, a
/// missing record before a good one is damage.
pub(super) fn scan(disk: &dyn SpoolDisk, names: &[String], here: Origin) -> io::Result<Found> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let mut found =
        Found { last: names.iter().filter_map(|name| number_in(name)).max().unwrap_or_default(), ..Found::default() };
    let mut latest = HashMap::<UsageId, (Option<UsageRow>, u64)>::new();
    let mut kept_aside = 0;
    for number in numbers {
        let name = segment_name(number);
        let bytes = disk.read(&name)?;
        // A later segment replaces notes of an earlier one, which is then removed.
        disk.sync(&name)?;
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        let written = records.first().and_then(|first| origin_of(first, number));
        if let Some(Origin { node: other, .. }) = written.filter(|written| written.node != here.node) {
            disk.rename(&name, &format!("{name}.of-{other}"))?;
            kept_aside += 1;
            continue;
        }
        let was_kept = written == Some(here);
        let seal = Seal::new(here.node, number);
        let (mut is_bad, mut is_damaged) = (false, false);
        for record in records {
            let note = match seal.read(record) {
                Slot::Empty | Slot::Bad => {
                    is_bad = true;
                    continue;
                }
                Slot::Begins(_) => continue,
                Slot::Note(note) => note,
            };
            is_damaged |= is_bad && was_kept;
            match note {
                Note::Row(row) => drop(latest.insert(row.usage_id, (Some(row), number))),
                Note::NotCharged(usage) => drop(latest.insert(usage, (None, number))),
            }
        }
        found.is_damaged |= is_damaged;
        found.segments.push_back(Pinned { number, live: 0, is_damaged });
    }
    if kept_aside > 0 {
        tracing::warn!(
            segments = kept_aside,
            "the usage spool has notes of another node, from which this folder was copied; they are kept aside and not settled"
        );
    }
    found.rows = latest.into_values().filter_map(|(row, segment)| Some((row?, segment))).collect();
    // In the order of their beginnings, as the batcher would have got them.
    found.rows.sort_unstable_by_key(|(row, _)| row.usage_id);
    Ok(found)
}
