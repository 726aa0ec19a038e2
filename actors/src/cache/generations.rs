//! When tags were last invalidated on this instance. One step outdates any number of entries in memory.
//!
//! Invalidations are counted. A value carries the count from before its load; it is outdated as soon as one of its tags
//! is invalidated after that, even while the load still runs. Nothing has to be found and removed: outdated entries are
//! dropped when they are read, or when they expire.
//!
//! **Bound.** Only the latest invalidations are remembered one by one. A value loaded before the oldest of them counts
//! as outdated, which costs a load.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::ports::CacheTag;

/// The number of invalidations before a moment.
pub(super) type Generation = u64;

/// Invalidations remembered one by one, at some 40 bytes each. At a hundred changes a second they reach back for eight
/// minutes, which is longer than most entries live.
const REMEMBERED: usize = 50_000;

pub(super) struct Generations {
    latest: AtomicU64,
    hasher: RandomState,
    bound: usize,
    history: RwLock<History>,
}

/// Tags by their hash. Two tags with the same hash are invalidated together, which costs a load and never shows an old
/// value.
#[derive(Default)]
struct History {
    last: HashMap<u64, Generation>,
    order: VecDeque<(Generation, u64)>,
    /// A value loaded before this is outdated, whatever its tags are.
    floor: Generation,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self::remembering(REMEMBERED)
    }

    fn remembering(bound: usize) -> Self {
        Self { latest: AtomicU64::new(0), hasher: RandomState::new(), bound, history: RwLock::default() }
    }

    /// Read it before a load begins.
    pub(super) fn now(&self) -> Generation {
        self.latest.load(Ordering::Acquire)
    }

    /// Whether no tag of a value that was loaded at `born` has been invalidated since.
    pub(super) fn is_current(&self, born: Generation, tags: &[CacheTag]) -> bool {
        if self.now() == born {
            return true;
        }
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        born >= history.floor
            && tags.iter().all(|tag| history.last.get(&self.hash(tag)).is_none_or(|&invalidated| invalidated <= born))
    }

    pub(super) fn invalidate(&self, tags: &[CacheTag]) {
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        let generation = self.now() + 1;
        if tags.contains(&CacheTag::ALL) {
            *history = History { floor: generation, ..History::default() };
        }
        for tag in tags {
            let tag = self.hash(tag);
            history.last.insert(tag, generation);
            history.order.push_back((generation, tag));
        }
        while history.order.len() > self.bound
            && let Some((oldest, tag)) = history.order.pop_front()
        {
            history.floor = oldest.max(history.floor);
            if history.last.get(&tag) == Some(&oldest) {
                history.last.remove(&tag);
            }
        }
        self.latest.store(generation, Ordering::Release);
    }

    fn hash(&self, tag: &CacheTag) -> u64 {
        self.hasher.hash_one(tag.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::VersionId;

    fn tag() -> CacheTag {
        CacheTag::asset(VersionId::next())
    }

    #[test]
    fn a_value_is_outdated_by_what_was_invalidated_after_its_load_began() {
        let (generations, [mine, other]) = (Generations::new(), [tag(), tag()]);
        generations.invalidate(std::slice::from_ref(&mine));
        let born = generations.now();
        generations.invalidate(std::slice::from_ref(&other));
        assert!(generations.is_current(born, std::slice::from_ref(&mine)));
        generations.invalidate(std::slice::from_ref(&mine));
        assert!(!generations.is_current(born, &[other.clone(), mine.clone()]));
        assert!(generations.is_current(generations.now(), &[mine]));
        let born = generations.now();
        generations.invalidate(&[CacheTag::ALL]);
        assert!(!generations.is_current(born, &[other]));
    }

    proptest! {
        /// Compared with a history without a bound: an outdated value is never called current.
        #[test]
        fn what_is_forgotten_outdates_more_and_never_less(steps in prop::collection::vec((0_usize..8, any::<bool>()), 1..200)) {
            let tags: Vec<_> = (0..8).map(|_| tag()).collect();
            let bounded = Generations::remembering(4);
            let complete = Generations::remembering(usize::MAX);
            let mut born = Vec::new();
            for (which, invalidates) in steps {
                if invalidates {
                    bounded.invalidate(&tags[which..=which]);
                    complete.invalidate(&tags[which..=which]);
                } else {
                    prop_assert_eq!(bounded.now(), complete.now());
                    born.push((bounded.now(), which));
                }
                for (born, which) in &born {
                    let tags = &tags[*which..=*which];
                    prop_assert!(!bounded.is_current(*born, tags) || complete.is_current(*born, tags));
                }
                let history = bounded.history.read().expect("no test panics here");
                prop_assert!(history.order.len() <= 4 && history.last.len() <= 4);
            }
        }
    }
}
