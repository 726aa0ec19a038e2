//! A batch of usage: rows and releases until they are due, by count or by age. Only limits: no I/O, no clock of its own.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    ids::ReceiptId,
    model::{Credit, WindowKind},
    ports::Release,
};

/// When a batch is due.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Rows of one batch: more rows make the transaction and its locks longer, and save too few round trips to be worth it.
    pub rows: usize,
    /// Age of the oldest item.
    pub age: Duration,
}

/// Rows and releases that wait for their batch. `T` is a row with the resources that must live as long (its permit).
#[derive(Debug)]
pub struct UsageBatch<T> {
    limits: BatchLimits,
    rows: VecDeque<T>,
    /// Merged by lease: one statement then touches each lease once.
    releases: HashMap<(ReceiptId, Timestamp, i64), Credit>,
    oldest: Option<Instant>,
}

impl<T> UsageBatch<T> {
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, rows: VecDeque::new(), releases: HashMap::new(), oldest: None }
    }

    pub fn push(&mut self, row: T, now: Instant) {
        self.rows.push_back(row);
        self.oldest.get_or_insert(now);
    }

    pub fn release(&mut self, release: Release, now: Instant) {
        let hour = WindowKind::Hour.window(release.window).start;
        *self.releases.entry((release.receipt_id, hour, release.epoch)).or_default() += release.credit;
        self.oldest.get_or_insert(now);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Rows that are missing for a full batch.
    pub fn room(&self) -> usize {
        self.limits.rows.saturating_sub(self.rows.len())
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.releases.is_empty()
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.rows.len() >= self.limits.rows || self.due_at().is_some_and(|due| due <= now)
    }

    /// When the oldest item reaches the age limit.
    pub fn due_at(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + self.limits.age)
    }

    /// Takes one batch: the oldest rows up to the limit, and all releases once no older row is left behind. So a
    /// release never overtakes a row of its lease.
    pub fn take(&mut self, now: Instant) -> (Vec<T>, Vec<Release>) {
        let rows: Vec<T> = self.rows.drain(..self.rows.len().min(self.limits.rows)).collect();
        let mut releases = Vec::new();
        if self.rows.is_empty() {
            let taken = self.releases.drain().map(|((receipt_id, window, epoch), credit)| Release {
                receipt_id,
                window,
                epoch,
                credit,
            });
            releases.extend(taken);
        }
        self.oldest = if self.is_empty() { None } else { Some(now) };
        (rows, releases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: BatchLimits = BatchLimits { rows: 4, age: Duration::from_millis(500) };

    fn release(bytes: u64) -> Release {
        Release {
            receipt_id: ReceiptId::from_uuid(uuid::Uuid::nil()),
            window: "2026-11-01T10:20:00Z".parse().expect("a time"),
            epoch: 1,
            credit: Credit::new(bytes, 1),
        }
    }

    #[test]
    fn a_batch_is_due_by_count_or_by_the_age_of_its_oldest_item() {
        let now = Instant::now();
        let mut batch = UsageBatch::new(LIMITS);
        assert!(!batch.is_due(now + Duration::from_secs(9)));
        batch.push(1, now);
        assert!(!batch.is_due(now));
        assert!(batch.is_due(now + LIMITS.age));
        for row in 2..=4 {
            batch.push(row, now);
        }
        assert!(batch.is_due(now));
        assert_eq!(batch.take(now).0, [1, 2, 3, 4]);
        assert_eq!(batch.due_at(), None);
    }

    #[test]
    fn releases_of_one_lease_are_one() {
        let now = Instant::now();
        let mut batch = UsageBatch::<()>::new(LIMITS);
        batch.release(release(3), now);
        batch.release(Release { window: "2026-11-01T10:59:59Z".parse().expect("a time"), ..release(4) }, now);
        let (_, releases) = batch.take(now);
        assert_eq!(releases.len(), 1);
        assert_eq!(releases[0].credit, Credit::new(7, 2));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_reordered(steps in proptest::collection::vec(0_u8..4, 0..200)) {
            let now = Instant::now();
            let mut batch = UsageBatch::new(LIMITS);
            let (mut pushed, mut taken, mut released, mut returned) = (0_u64, Vec::new(), 0, 0);
            for step in steps {
                match step {
                    0 | 1 => {
                        batch.push(pushed, now);
                        pushed += 1;
                    }
                    2 => {
                        batch.release(release(1), now);
                        released += 1;
                    }
                    _ => {
                        let (rows, releases) = batch.take(now);
                        prop_assert!(rows.len() <= LIMITS.rows);
                        prop_assert!(releases.is_empty() || batch.rows.is_empty());
                        taken.extend(rows);
                        returned += releases.iter().map(|release| release.credit.bytes).sum::<u64>();
                    }
                }
            }
            while !batch.is_empty() {
                let (rows, releases) = batch.take(now);
                taken.extend(rows);
                returned += releases.iter().map(|release| release.credit.bytes).sum::<u64>();
            }
            prop_assert_eq!(taken, (0..pushed).collect::<Vec<_>>());
            prop_assert_eq!(returned, released);
        }
    }
}
