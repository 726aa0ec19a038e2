//! What may be done once and was done, until its time is over.
//!
//! Nothing is forgotten early: when there is no room, nobody is told to be the first. What a process that ran here before may
//! have remembered is gone with it, so whatever was made before this one began counts as forgotten. The wall clock is taken to
//! stand still when it is set back.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use jiff::Timestamp;
use penstock_actors::ports::{OneUse, PortError, PortResult, Use, UseTerms};

/// Uses, with the times when they need not be remembered any more.
#[derive(Debug)]
pub(in crate::adapters) struct Uses {
    since: Timestamp,
    latest: Timestamp,
    done: HashSet<[u8; 32]>,
    /// As many as there are in the set, the next to go first.
    by_end: BinaryHeap<Reverse<(Timestamp, [u8; 32])>>,
}

impl Uses {
    pub(in crate::adapters) fn since(now: Timestamp) -> Self {
        Self { since: now, latest: now, done: HashSet::new(), by_end: BinaryHeap::new() }
    }

    pub(in crate::adapters) fn once(&mut self, once: OneUse, terms: UseTerms, now: Timestamp) -> PortResult<Use> {
        let UseTerms { window, ahead, uses } = terms;
        let now = now.max(self.latest);
        self.latest = now;
        while let Some(Reverse((end, name))) = self.by_end.peek().copied()
            && end <= now
        {
            self.by_end.pop();
            self.done.remove(&name);
        }
        let Ok(end) = once.made_at.checked_add(window) else { return Ok(Use::Stale(now)) };
        if end <= now || once.made_at.duration_since(now) > ahead.try_into().unwrap_or(jiff::SignedDuration::MAX) {
            return Ok(Use::Stale(now));
        }
        let remembered_from = self.since.saturating_add(ahead).unwrap_or(Timestamp::MAX);
        if once.made_at <= remembered_from {
            return Ok(Use::Forgotten(remembered_from.duration_since(now).try_into().unwrap_or_default()));
        }
        if self.done.contains(&once.name) {
            return Ok(Use::Again);
        }
        if self.done.len() >= uses as usize {
            return Err(PortError::unavailable("the memory of what was used", "it is full"));
        }
        self.done.insert(once.name);
        self.by_end.push(Reverse((end, once.name)));
        Ok(Use::First)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const TERMS: UseTerms = UseTerms { window: Duration::from_secs(60), ahead: Duration::from_secs(5), uses: 1000 };

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a valid time")
    }

    #[test]
    fn what_was_made_before_is_forgotten_until_nothing_of_before_can_pass() {
        let mut uses = Uses::since(second(0));
        let mut ask = |made, now| {
            uses.once(OneUse { name: [made as u8; 32], made_at: second(made) }, TERMS, second(now)).expect("room")
        };
        assert_eq!(ask(-1, 1), Use::Forgotten(Duration::from_secs(4)));
        // By then its maker's clock may have been ahead.
        assert_eq!(ask(5, 4), Use::Forgotten(Duration::from_secs(1)));
        assert_eq!(ask(6, 6), Use::First);
        assert_eq!(ask(6, 65), Use::Again);
        assert_eq!(ask(6, 66), Use::Stale(second(66)));
        assert_eq!(ask(72, 66), Use::Stale(second(66)));
    }

    proptest! {
        #[test]
        fn nothing_is_the_first_twice_however_the_clock_jumps(
            steps in prop::collection::vec((0_u8..20, 0_i64..400, 0_i64..400), 1..200),
        ) {
            let mut uses = Uses::since(second(0));
            let mut firsts = HashSet::new();
            for (name, made, now) in steps {
                let once = OneUse { name: [name; 32], made_at: second(made) };
                // A name is of one thing, made at one time.
                let once = OneUse { made_at: second(i64::from(name) * 17), ..once };
                if uses.once(once, TERMS, second(now)).expect("room") == Use::First {
                    prop_assert!(firsts.insert(name), "{name} twice");
                }
                prop_assert_eq!(uses.done.len(), uses.by_end.len());
            }
        }
    }
}
