//! One-time uses, until their time is over.
//!
//! Nothing is forgotten early: when the store is full, new uses are refused. An earlier process on this machine may
//! have remembered uses that are lost with it, so a name made before this process began counts as forgotten. A name
//! made no later than one that was dropped as too old is too old for ever, whatever the clock does.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use jiff::Timestamp;
use penstock_actors::ports::{PortError, PortResult, ReplayCheck, ReplayKey, ReplayTerms};

/// One-time uses, by the time at which their names were made.
#[derive(Debug)]
pub(in crate::adapters) struct ReplayMemory {
    since: Timestamp,
    /// The newest creation time among the dropped names.
    gone: Timestamp,
    done: HashSet<[u8; 32]>,
    /// As many as in the set, the oldest is dropped first.
    by_age: BinaryHeap<Reverse<(Timestamp, [u8; 32])>>,
}

impl ReplayMemory {
    pub(in crate::adapters) fn since(now: Timestamp) -> Self {
        Self { since: now, gone: Timestamp::MIN, done: HashSet::new(), by_age: BinaryHeap::new() }
    }

    pub(in crate::adapters) fn once(
        &mut self,
        once: ReplayKey,
        terms: ReplayTerms,
        now: Timestamp,
    ) -> PortResult<ReplayCheck> {
        let ReplayTerms { window, ahead, uses } = terms;
        let too_old = now.saturating_sub(window).unwrap_or(Timestamp::MIN);
        while let Some(Reverse((made_at, name))) = self.by_age.peek().copied()
            && made_at <= too_old
        {
            self.by_age.pop();
            self.done.remove(&name);
            self.gone = self.gone.max(made_at);
        }
        let far = once.made_at.duration_since(now) > ahead.try_into().unwrap_or(jiff::SignedDuration::MAX);
        if once.made_at <= too_old || far {
            return Ok(ReplayCheck::Stale(now));
        }
        let remembered_from = self.since.saturating_add(ahead).unwrap_or(Timestamp::MAX);
        if once.made_at <= remembered_from {
            return Ok(ReplayCheck::Forgotten(remembered_from.duration_since(now).try_into().unwrap_or_default()));
        }
        if once.made_at <= self.gone {
            return Ok(ReplayCheck::Stale(now));
        }
        if self.done.contains(&once.name) {
            return Ok(ReplayCheck::Again);
        }
        if self.done.len() >= uses as usize {
            return Err(PortError::unavailable("the store of one-time uses", "it is full"));
        }
        self.done.insert(once.name);
        self.by_age.push(Reverse((once.made_at, once.name)));
        Ok(ReplayCheck::First)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const TERMS: ReplayTerms =
        ReplayTerms { window: Duration::from_secs(60), ahead: Duration::from_secs(5), uses: 1000 };

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a valid time")
    }

    #[test]
    fn what_was_made_before_is_forgotten_until_nothing_of_before_can_pass() {
        let mut uses = ReplayMemory::since(second(0));
        let mut ask = |made, now| {
            uses.once(ReplayKey { name: [made as u8; 32], made_at: second(made) }, TERMS, second(now)).expect("room")
        };
        assert_eq!(ask(-1, 1), ReplayCheck::Forgotten(Duration::from_secs(4)));
        // By then the clock of the maker may have been ahead.
        assert_eq!(ask(5, 4), ReplayCheck::Forgotten(Duration::from_secs(1)));
        assert_eq!(ask(6, 6), ReplayCheck::First);
        assert_eq!(ask(6, 65), ReplayCheck::Again);
        assert_eq!(ask(6, 66), ReplayCheck::Stale(second(66)));
        assert_eq!(ask(72, 66), ReplayCheck::Stale(second(66)));
    }

    #[test]
    fn a_clock_that_was_briefly_far_ahead_refuses_no_later_request() {
        let mut uses = ReplayMemory::since(second(0));
        let mut ask = |name, made, now| {
            uses.once(ReplayKey { name: [name; 32], made_at: second(made) }, TERMS, second(now)).expect("room")
        };
        assert_eq!(ask(1, 10, 10), ReplayCheck::First);
        assert_eq!(ask(2, 11, 1_000_000), ReplayCheck::Stale(second(1_000_000)));
        assert_eq!(ask(1, 10, 12), ReplayCheck::Stale(second(12)), "it was let go");
        assert_eq!(ask(3, 12, 12), ReplayCheck::First);
    }

    proptest! {
        #[test]
        fn nothing_is_the_first_twice_however_the_clock_jumps_and_the_window_changes(
            steps in prop::collection::vec((0_u8..20, 1_u64..400, 0_i64..400), 1..200),
        ) {
            let mut uses = ReplayMemory::since(second(0));
            let mut firsts = HashSet::new();
            for (name, window, now) in steps {
                // A name stands for one thing, made at one time.
                let once = ReplayKey { name: [name; 32], made_at: second(i64::from(name) * 17) };
                let terms = ReplayTerms { window: Duration::from_secs(window), ..TERMS };
                if uses.once(once, terms, second(now)).expect("room") == ReplayCheck::First {
                    prop_assert!(firsts.insert(name), "{name} twice");
                }
                prop_assert_eq!(uses.done.len(), uses.by_age.len());
            }
        }
    }
}
