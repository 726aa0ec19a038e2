//! `Mark`: up to where a stream is noted in the usage spool. Arithmetic only.
//!
//! What a stream hands over is noted before, so after a kill it is charged up to its mark. Between two pieces that are noted one by
//! one lies at most one piece. A fast stream is noted in larger steps, because a note for each piece would cost it more than it is
//! worth; a step is never larger than what the kernel holds unsent for a connection anyway.

use std::time::{Duration, Instant};

use crate::content::read_ahead::PIECE_BYTES;

/// The largest step between two notes: the kernel's bound of unsent bytes.
const LONGEST_STEP: u64 = 256 << 10;

/// A stream that is noted more often than this takes larger steps: 50 notes a second are no load for any disk or processor.
const QUICK: Duration = Duration::from_millis(20);

/// The content bytes of one stream that are noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    noted: u64,
    /// All content bytes of the stream.
    all: u64,
    step: u64,
    at: Instant,
}

impl Mark {
    /// The mark of a stream of `all` content bytes, before its first piece of `first` bytes.
    pub(super) fn first(first: u64, all: u64, now: Instant) -> Self {
        Self { noted: first.min(all), all, step: PIECE_BYTES, at: now }
    }

    /// The mark that must be noted before the stream hands over its bytes until `until`; `None` when they are noted already.
    pub(super) fn next(&self, until: u64, now: Instant) -> Option<Self> {
        if until <= self.noted {
            return None;
        }
        let is_quick = now.saturating_duration_since(self.at) < QUICK;
        let step = if is_quick { (self.step * 2).min(LONGEST_STEP) } else { (self.step / 2).max(PIECE_BYTES) };
        let noted = until.max(self.noted + step).min(self.all);
        // A last piece that is smaller than others is not worth a note of its own.
        let noted = if self.all - noted < PIECE_BYTES && is_quick { self.all } else { noted };
        Some(Self { noted, step, at: now, ..*self })
    }

    /// Bytes that are charged if the process ends now.
    pub(super) const fn bytes(&self) -> u64 {
        self.noted
    }

    /// All content bytes of the stream.
    pub(super) const fn all(&self) -> u64 {
        self.all
    }

    /// Whether the whole content is noted.
    pub(super) const fn is_whole(&self) -> bool {
        self.noted == self.all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_handed_over_is_noted_before_and_little_more(
            all in 0_u64..3 << 20,
            pauses in proptest::collection::vec(0_u64..60, 1..200),
        ) {
            let mut now = Instant::now();
            let mut mark = Mark::first(all.min(PIECE_BYTES), all, now);
            let mut pauses = pauses.into_iter().cycle();
            let mut until = 0;
            while until < all {
                until = (until + PIECE_BYTES).min(all);
                now += Duration::from_millis(pauses.next().unwrap_or_default());
                mark = mark.next(until, now).unwrap_or(mark);
                prop_assert!(mark.bytes() >= until && mark.bytes() <= all);
                prop_assert!(mark.bytes() - until < LONGEST_STEP + PIECE_BYTES);
            }
            prop_assert!(mark.is_whole());
        }
    }

    #[test]
    fn a_slow_stream_is_noted_piece_by_piece_and_a_fast_one_in_large_steps() {
        let began = Instant::now();
        let (mut slow, mut fast) = (Mark::first(PIECE_BYTES, 1 << 30, began), Mark::first(PIECE_BYTES, 1 << 30, began));
        let mut notes = 0;
        for piece in 2..1000 {
            let until = piece * PIECE_BYTES;
            slow = slow.next(until, began + QUICK * piece as u32).expect("each piece is noted");
            assert_eq!(slow.bytes(), until);
            if let Some(next) = fast.next(until, began) {
                (fast, notes) = (next, notes + 1);
            }
        }
        assert!(notes < 130, "{notes}");
    }
}
