//! Recent changes: reads of a changed topic go to a replica that has the change, and to the primary until one has it.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use penstock_actors::ids::{ReceiptId, VersionId};

/// Places for topics. Two topics that share a place may send a read to the primary that a replica could have served.
const PLACES: usize = 4096;

/// The topic of a read, by which changes are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Topic {
    Asset(VersionId),
    /// What searches find: any asset, any price.
    Catalogue,
    /// All quota policies: they are few, and are read together.
    Policies,
    /// Usage rows of a receipt.
    Usage(ReceiptId),
}

/// When each topic was last changed. A fixed table without a lock, whatever is changed: about 32 KiB.
#[derive(Debug)]
pub(super) struct Pins {
    start: Instant,
    /// Microseconds since the start; 0 for never.
    places: Box<[AtomicU64]>,
    everything: AtomicU64,
}

impl Default for Pins {
    fn default() -> Self {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Self { start: Instant::now(), places, everything: AtomicU64::default() }
    }
}

impl Pins {
    /// Notes that a topic has changed by `at`.
    pub(super) fn pin(&self, topic: Topic, at: Instant) {
        self.place(topic).fetch_max(self.moment(at), Relaxed);
    }

    /// Notes that anything may have changed by `at`.
    pub(super) fn pin_all(&self, at: Instant) {
        self.everything.fetch_max(self.moment(at), Relaxed);
    }

    /// The moment up to which a read must see every commit.
    pub(super) fn pinned(&self, topic: Topic) -> Option<Instant> {
        match self.place(topic).load(Relaxed).max(self.everything.load(Relaxed)) {
            0 => None,
            moment => Some(self.start + Duration::from_micros(moment)),
        }
    }

    /// Rounded up: a moment that is too late costs a read from the primary, one that is too early returns old data.
    fn moment(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start).as_nanos().div_ceil(1000);
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    fn place(&self, topic: Topic) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        // There are fewer places than 32-bit numbers.
        &self.places[hasher.finish() as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_remembered_under_its_topic_and_never_as_too_early() {
        let pins = Pins::default();
        let (asset, other) = (Topic::Asset(VersionId::next()), Topic::Policies);
        assert_eq!(pins.pinned(asset), None);
        let at = Instant::now();
        pins.pin(asset, at);
        pins.pin(asset, at.checked_sub(Duration::from_secs(1)).unwrap());
        assert!(pins.pinned(asset).is_some_and(|pinned| pinned >= at));
        assert_eq!(pins.pinned(other), None);
        pins.pin_all(at);
        assert!(pins.pinned(other).is_some_and(|pinned| pinned >= at));
    }
}
