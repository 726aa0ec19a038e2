//! The promises of every [`UsageSpool`]: what a process that is killed leaves to the next one.

use jiff::Timestamp;

use crate::{
    ids::{ContentHash, ReceiptId, SessionId, UsageId},
    model::{ClientMark, Outcome, UsageRow},
    ports::{Leftover, UsageSpool},
};

/// A spool that can be opened again, as after a kill.
pub trait SpoolHome {
    type Spool: UsageSpool;

    /// The spool as the next process opens it, and what it finds there. The last process is gone without a word.
    fn open(&mut self) -> (Self::Spool, Leftover);
}

/// A row of which each field has a value of its own.
pub fn row(bytes_sent: u64) -> UsageRow {
    let at = |micros| Timestamp::from_microsecond(micros).expect("a time");
    UsageRow {
        usage_id: UsageId::next(),
        receipt_id: ReceiptId::random(),
        content_hash: ContentHash::from_bytes([7; 32]),
        session_id: Some(SessionId::random()),
        client: Some(ClientMark::from_bytes(*b"a client")),
        started_at: at(1_793_530_200_000_001),
        finished_at: at(1_793_530_200_000_002),
        bytes_sent,
        requests: 1,
        outcome: Outcome::Failed,
        lease_epoch: Some(1_793_530_100_000_000),
    }
}

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub fn run<H: SpoolHome>(new: impl Fn() -> H) {
    the_last_note_of_each_stream_is_left(new());
    what_is_settled_or_not_charged_is_not_left(new());
    what_was_left_stays_until_it_is_settled(new());
    a_spool_answers_for_the_epochs_that_did_not_end(new());
}

/// The rows that are left, by their ids.
fn rows(left: &Leftover) -> Vec<UsageRow> {
    let mut rows: Vec<_> = left.rows.iter().map(|(_, row)| row.clone()).collect();
    rows.sort_by_key(|row| row.usage_id);
    rows
}

fn the_last_note_of_each_stream_is_left(mut home: impl SpoolHome) {
    let (spool, left) = home.open();
    assert!(left.rows.is_empty() && left.complete.is_empty() && spool.has_room());
    let first = row(10);
    let second = UsageRow { session_id: None, lease_epoch: None, outcome: Outcome::Completed, ..row(20) };
    let key = spool.begin(&first).expect("noted");
    spool.begin(&second).expect("noted");
    let later = UsageRow { bytes_sent: 30, outcome: Outcome::Aborted, ..first };
    spool.renew(key, &later).expect("noted");
    assert_eq!(spool.status().entries, 2);
    drop(spool);
    let (_, left) = home.open();
    assert_eq!(rows(&left), [later, second]);
}

fn what_is_settled_or_not_charged_is_not_left(mut home: impl SpoolHome) {
    let (spool, _) = home.open();
    let (kept, settled, cancelled) = (row(1), row(2), row(3));
    spool.begin(&kept).expect("noted");
    let [settled_key, cancelled_key] = [&settled, &cancelled].map(|row| spool.begin(row).expect("noted"));
    spool.settled(settled_key);
    spool.cancel(cancelled_key);
    assert_eq!(spool.status().entries, 1);
    drop(spool);
    let (_, left) = home.open();
    // A settled row may be found again, because the ledger takes it once. One that is not charged may not.
    assert!(rows(&left).contains(&kept) && !rows(&left).contains(&cancelled));
}

fn what_was_left_stays_until_it_is_settled(mut home: impl SpoolHome) {
    let (spool, _) = home.open();
    let noted = row(5);
    spool.begin(&noted).expect("noted");
    drop(spool);
    for _ in 0..3 {
        let (spool, left) = home.open();
        assert_eq!(rows(&left), std::slice::from_ref(&noted));
        drop(spool);
    }
    let (spool, left) = home.open();
    left.rows.iter().for_each(|(key, _)| spool.settled(*key));
    assert_eq!(spool.status().entries, 0);
    spool.stop();
    drop(spool);
    let (_, left) = home.open();
    assert!(left.rows.is_empty());
}

fn a_spool_answers_for_the_epochs_that_did_not_end(mut home: impl SpoolHome) {
    let (spool, _) = home.open();
    for epoch in [1, 2, 3] {
        spool.epoch_began(epoch);
    }
    spool.epoch_ended(2);
    drop(spool);
    for _ in 0..2 {
        let (spool, left) = home.open();
        assert_eq!(left.complete, [1, 3]);
        drop(spool);
    }
    let (spool, _) = home.open();
    spool.epoch_ended(1);
    drop(spool);
    assert_eq!(home.open().1.complete, [3]);
}
