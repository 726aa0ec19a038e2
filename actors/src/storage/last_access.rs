//! `LastAccess`: the day on which content was last used, written to the database once a day per content and instance.
//!
//! A stream only checks whether its content was noted today, which reads a set in memory. New ones go to the database with
//! the next flush, many contents in one statement. So last use costs one row a day per content, however often it is streamed,
//! and costs a stream nothing. A crash loses what was not flushed; the next use on the same day notes it again.
//!
//! **Bound.** [`MOST`] contents are remembered as noted; beyond that the set begins anew, and some contents are written
//! twice, which is harmless. As many wait for a database that does not answer; a content beyond that is noted at its
//! next use.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError, RwLock},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::ids::ContentHash;

/// Contents in the set: some 5 MB.
const MOST: usize = 100_000;

/// The contents used today.
#[derive(Default)]
pub struct LastAccess {
    noted: RwLock<DayAccesses>,
    waiting: Mutex<Vec<(Date, ContentHash)>>,
}

#[derive(Default)]
struct DayAccesses {
    /// `None` before the first use.
    day: Option<Date>,
    hashes: HashSet<ContentHash>,
}

impl LastAccess {
    /// Notes that a content is used.
    pub fn used(&self, hash: ContentHash, now: Timestamp) {
        let day = TimeZone::UTC.to_datetime(now).date();
        {
            let noted = self.noted.read().unwrap_or_else(PoisonError::into_inner);
            if noted.day == Some(day) && noted.hashes.contains(&hash) {
                return;
            }
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MOST {
            return;
        }
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        if noted.day != Some(day) || noted.hashes.len() == MOST {
            *noted = DayAccesses { day: Some(day), hashes: HashSet::new() };
        }
        if noted.hashes.insert(hash) {
            waiting.push((day, hash));
        }
    }

    /// Takes up to `limit` contents of one day that are not in the database yet.
    pub fn take(&self, limit: usize) -> Option<(Date, Vec<ContentHash>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, _) = *waiting.first()?;
        let end = waiting.iter().take(limit).take_while(|(of, _)| *of == day).count();
        Some((day, waiting.drain(..end).map(|(_, hash)| hash).collect()))
    }

    /// Gives back contents that the database did not take.
    pub fn put_back(&self, day: Date, hashes: Vec<ContentHash>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST.saturating_sub(waiting.len());
        waiting.splice(0..0, hashes.into_iter().take(room).map(|hash| (day, hash)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_content_is_written_once_a_day() {
        let (uses, hash) = (LastAccess::default(), ContentHash::from_bytes([1; 32]));
        for minute in ["00", "30", "59"] {
            uses.used(hash, at(&format!("2026-03-02T23:{minute}:00Z")));
        }
        let (day, told) = uses.take(10).expect("something to tell");
        assert_eq!((day, told), (Date::constant(2026, 3, 2), vec![hash]));
        assert_eq!(uses.take(10), None);
        uses.used(hash, at("2026-03-03T00:00:00Z"));
        assert_eq!(uses.take(10), Some((Date::constant(2026, 3, 3), vec![hash])));
    }

    #[test]
    fn what_waits_is_bounded_and_a_content_without_room_is_noted_at_its_next_use() {
        let (uses, noon) = (LastAccess::default(), at("2026-03-02T12:00:00Z"));
        let hash = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            ContentHash::from_bytes(bytes)
        };
        (0..=MOST).for_each(|n| uses.used(hash(n), noon));
        let (_, told) = uses.take(usize::MAX).expect("something to tell");
        assert_eq!((told.len(), told.contains(&hash(MOST))), (MOST, false));
        uses.used(hash(MOST), noon);
        assert_eq!(uses.take(10), Some((Date::constant(2026, 3, 2), vec![hash(MOST)])));
    }

    #[test]
    fn accesses_that_were_not_written_are_written_again_day_by_day() {
        let (uses, hash) = (LastAccess::default(), |n| ContentHash::from_bytes([n; 32]));
        for n in 0..3 {
            uses.used(hash(n), at("2026-03-02T12:00:00Z"));
        }
        uses.used(hash(9), at("2026-03-03T12:00:00Z"));
        let (day, told) = uses.take(2).expect("something to tell");
        uses.put_back(day, told);
        assert_eq!(uses.take(10), Some((Date::constant(2026, 3, 2), vec![hash(0), hash(1), hash(2)])));
        assert_eq!(uses.take(10), Some((Date::constant(2026, 3, 3), vec![hash(9)])));
    }
}
