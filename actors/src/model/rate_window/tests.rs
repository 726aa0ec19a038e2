use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const WINDOW: u64 = 1000;

/// One subject's counts over time, beside the exact log of admitted requests.
#[derive(Default)]
struct Walk {
    counts: RateWindow,
    window: u64,
    /// Times in milliseconds, oldest first.
    log: VecDeque<u64>,
}

impl Walk {
    fn moment(&mut self, now: u64) -> WindowTime {
        while self.window < now / WINDOW {
            self.counts = self.counts.next();
            self.window += 1;
        }
        WindowTime { elapsed: now % WINDOW, window: WINDOW }
    }

    fn ask(&mut self, limit: u32, now: u64) -> bool {
        let at = self.moment(now);
        let granted = self.counts.take(CountRequest::one(limit), at) == 1;
        self.log.extend(granted.then_some(now));
        granted
    }

    /// The requests admitted in `from..=to`.
    fn let_in(&self, from: u64, to: u64) -> u64 {
        self.log.iter().filter(|&&time| (from..=to).contains(&time)).count() as u64
    }
}

/// A client's times of requests, as pauses: bursts, steady streams and long silences.
fn pauses() -> impl Strategy<Value = Vec<u64>> {
    let pause = prop_oneof![4 => Just(0_u64), 4 => 1..40_u64, 2 => 40..700_u64, 1 => 700..3000_u64];
    prop::collection::vec(pause, 1..300)
}

proptest! {
    #[test]
    fn an_aligned_window_never_lets_in_more_than_the_limit(pauses in pauses(), limit in 0..40_u32) {
        let (mut walk, mut now) = (Walk::default(), 0);
        for pause in pauses {
            now += pause;
            walk.ask(limit, now);
        }
        for window in 0..=now / WINDOW {
            prop_assert!(walk.let_in(window * WINDOW, window * WINDOW + WINDOW - 1) <= u64::from(limit));
        }
    }

    #[test]
    fn any_window_lets_in_at_most_the_limit_and_what_has_slid_out_of_the_previous_one(
        pauses in pauses(),
        limit in 1..40_u32,
    ) {
        let (mut walk, mut now) = (Walk::default(), 0);
        for pause in pauses {
            now += pause;
            if !walk.ask(limit, now) {
                continue;
            }
            let at = walk.moment(now);
            let slid_out = u64::from(walk.counts.previous) - share(walk.counts.previous, at);
            let sliding = walk.let_in((now + 1).saturating_sub(WINDOW), now);
            prop_assert!(sliding <= u64::from(limit) + slid_out, "{sliding} at {now}");
            prop_assert!(sliding <= 2 * u64::from(limit));
        }
    }

    #[test]
    fn the_count_is_off_from_an_exact_log_by_at_most_a_share_of_the_previous_window(
        pauses in pauses(),
        limit in 1..40_u32,
    ) {
        let (mut walk, mut now) = (Walk::default(), 0);
        for pause in pauses {
            now += pause;
            let at = walk.moment(now);
            let exact = walk.let_in((now + 1).saturating_sub(WINDOW), now);
            let covered = share(walk.counts.previous, at);
            let counted = u64::from(walk.counts.current) + covered;
            let bound = covered.max(u64::from(walk.counts.previous) - covered);
            prop_assert!(counted.abs_diff(exact) <= bound, "{counted} for {exact} at {now}");
            walk.ask(limit, now);
        }
    }

    #[test]
    fn who_asks_evenly_is_counted_as_an_exact_log_would_but_for_one(every in 1..300_u64, start in 0..WINDOW) {
        let mut walk = Walk::default();
        for turn in 0..2000 / every + 10 {
            let now = start + turn * every;
            let at = walk.moment(now);
            // The requests of this very moment are in neither count yet.
            let exact = walk.let_in((now + 1).saturating_sub(WINDOW), now);
            let counted = u64::from(walk.counts.current) + share(walk.counts.previous, at);
            // In its first window a subject has no previous window that could be taken for even.
            if now >= start + 2 * WINDOW {
                prop_assert!(counted.abs_diff(exact) <= 1, "{counted} for {exact} at {now}");
            }
            prop_assert!(walk.ask(2000, now));
        }
    }

    #[test]
    fn there_is_room_for_one_more_exactly_when_it_was_said(
        previous in 0..50_u32,
        current in 0..50_u32,
        limit in 1..50_u32,
        elapsed in 0..WINDOW,
    ) {
        let counts = RateWindow { previous, current };
        let room = |later: u64| {
            let time = elapsed + later;
            let mut then = counts;
            for _ in 0..time / WINDOW {
                then = then.next();
            }
            then.headroom(limit, WindowTime { elapsed: time % WINDOW, window: WINDOW })
        };
        let more = counts.more_after(limit, WindowTime { elapsed, window: WINDOW }).as_millis() as u64;
        if room(0) == limit {
            prop_assert_eq!(more, 0);
        } else {
            prop_assert!(room(more) > room(0), "{} after {more} ms", room(more));
            prop_assert!(more > 0 && room(more - 1) <= room(0), "{} already a moment before", room(more - 1));
        }
    }

    #[test]
    fn what_is_needed_comes_first_and_the_spare_is_a_part_of_the_rest(
        previous in 0..100_u32,
        current in 0..100_u32,
        limit in 0..200_u32,
        need in 1..50_u32,
        spare_parts in 0..9_u32,
        elapsed in 0..WINDOW,
    ) {
        let at = WindowTime { elapsed, window: WINDOW };
        let before = RateWindow { previous, current };
        let mut after = before;
        let headroom = before.headroom(limit, at);
        let granted = after.take(CountRequest { limit, need, spare_parts }, at);
        prop_assert!(granted >= need.min(headroom));
        prop_assert!(granted <= headroom);
        prop_assert!(granted.saturating_sub(need) <= (headroom.saturating_sub(need)).checked_div(spare_parts).unwrap_or(0));
        prop_assert_eq!(after, RateWindow { previous, current: current + granted });
        prop_assert_eq!(after.headroom(limit, at), headroom - granted);
    }
}

#[test]
fn who_hammers_gets_the_limit_all_the_same() {
    let mut walk = Walk::default();
    for now in 0..10 * WINDOW {
        walk.ask(10, now);
    }
    // The first window is taken at once; from then on the limit comes in evenly.
    assert!((95..=100).contains(&walk.log.len()), "{}", walk.log.len());
    assert!(walk.let_in(9 * WINDOW, 10 * WINDOW) >= 9);
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let mut counts = RateWindow { previous: u32::MAX, current: u32::MAX };
    let at = WindowTime { elapsed: 1, window: 60_000 };
    assert_eq!(counts.headroom(u32::MAX, at), 0);
    assert_eq!(counts.take(CountRequest { limit: u32::MAX, need: u32::MAX, spare_parts: 1 }, at), 0);
    assert!(counts.more_after(1, at) <= Duration::from_mins(2));
}
