//! The most used items, counted in bounded memory: the space-saving sketch.
//!
//! It keeps `capacity` counters. An item without a counter takes over the smallest one, and inherits its count as a possible
//! error. So every item used more often than once in `capacity` times is certainly among them, however long the tail.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Counters of the most used items.
#[derive(Debug)]
pub struct HeavyHitters<T> {
    capacity: usize,
    counts: HashMap<T, HeavyHitter>,
    /// The same counters, smallest count first.
    order: BTreeSet<(u64, T)>,
}

#[derive(Debug, Clone, Copy)]
struct HeavyHitter {
    count: u64,
    /// The count at the takeover: the item's count is too high by at most this.
    inherited: u64,
}

impl<T: Clone + Eq + Hash + Ord> HeavyHitters<T> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), counts: HashMap::new(), order: BTreeSet::new() }
    }

    pub fn add(&mut self, thing: &T) {
        let before = match self.counts.get(thing) {
            Some(count) => {
                self.order.remove(&(count.count, thing.clone()));
                *count
            }
            None if self.counts.len() < self.capacity => HeavyHitter { count: 0, inherited: 0 },
            None => match self.order.pop_first() {
                Some((count, pushed_out)) => {
                    self.counts.remove(&pushed_out);
                    HeavyHitter { count, inherited: count }
                }
                None => return,
            },
        };
        let now = HeavyHitter { count: before.count + 1, ..before };
        self.order.insert((now.count, thing.clone()));
        self.counts.insert(thing.clone(), now);
    }

    /// Takes up to `limit` of the most used items, each with the least number of its uses; counting begins anew.
    pub fn take(&mut self, limit: usize) -> Vec<(T, u64)> {
        let mut counts = std::mem::take(&mut self.counts);
        let order = std::mem::take(&mut self.order);
        let most = order.into_iter().rev().filter_map(|(_, thing)| {
            let HeavyHitter { count, inherited } = counts.remove(&thing)?;
            Some((thing, count - inherited))
        });
        most.take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_used_most_is_found_among_many_that_are_used_once() {
        let mut uses = HeavyHitters::new(10);
        for n in 0..1000_u32 {
            uses.add(&n);
            uses.add(&if n % 3 == 0 { 5000 } else { 6000 });
        }
        let most: Vec<_> = uses.take(2).into_iter().map(|(thing, _)| thing).collect();
        assert_eq!(most, [6000, 5000]);
        assert!(uses.take(2).is_empty(), "counting begins anew");
    }

    proptest! {
        #[test]
        fn whatever_is_more_than_its_share_is_kept_and_never_counted_too_high(
            things in prop::collection::vec(0_u8..40, 0..400),
            capacity in 1_usize..20,
        ) {
            let mut uses = HeavyHitters::new(capacity);
            let mut exact = HashMap::<u8, u64>::new();
            for thing in &things {
                uses.add(thing);
                *exact.entry(*thing).or_default() += 1;
                prop_assert!(uses.counts.len() <= capacity && uses.order.len() == uses.counts.len());
            }
            let kept: HashMap<_, _> = uses.take(usize::MAX).into_iter().collect();
            for (thing, count) in exact {
                prop_assert!(count * capacity as u64 <= things.len() as u64 || kept.contains_key(&thing));
                prop_assert!(kept.get(&thing).is_none_or(|&least| least <= count));
            }
        }
    }
}
