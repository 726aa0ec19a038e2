//! The cost of a note in the usage spool, which each stream pays before its first byte, and of the streams of one piece that need no
//! other.
//!
//! The notes go to a folder of the temporary directory: set TMPDIR to the disk that is to be measured.

use std::{sync::Arc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use jiff::Timestamp;
use penstock::adapters::usage_spool::{FileSpool, UsageSpoolSettings};
use penstock_actors::{
    ids::{ContentHash, NodeId, ReceiptId, UsageId},
    model::{Outcome, UsageRow},
    ports::UsageSpool as _,
};

/// Notes of one measured run.
const NOTES: usize = 10_000;

fn main() {
    divan::main();
}

fn open(folder: &tempfile::TempDir) -> Arc<FileSpool> {
    let settings =
        UsageSpoolSettings { node: NodeId::random(), place: None, is_same_folder: false, bytes: 1 << 30, cores: 4 };
    FileSpool::open(folder.path(), settings, Duration::from_millis(100)).expect("a spool").0
}

fn row() -> UsageRow {
    let now = Timestamp::now();
    UsageRow {
        usage_id: UsageId::next(),
        receipt_id: ReceiptId::random(),
        content_hash: ContentHash::from_bytes([7; 32]),
        session_id: None,
        client: None,
        started_at: now,
        finished_at: now,
        bytes_sent: 4096,
        requests: 1,
        outcome: Outcome::Completed,
        lease_epoch: Some(1),
    }
}

/// A stream of one piece: noted once, and forgotten when it is settled.
#[divan::bench(threads = [1, 2, 4])]
fn short_stream(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(&folder);
    bencher.counter(ItemsCount::new(NOTES)).with_inputs(row).bench_values(|row| {
        for _ in 0..NOTES {
            let key = spool.begin(&UsageRow { usage_id: UsageId::next(), ..row.clone() }).expect("room");
            spool.settled(key);
        }
    });
}

/// A further note of a stream that runs, beside many others.
#[divan::bench(args = [1, 10_000])]
fn running_stream(bencher: Bencher<'_, '_>, streams: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(&folder);
    let keys: Vec<_> = (0..streams).map(|_| spool.begin(&row()).expect("room")).collect();
    let row = row();
    bencher.counter(ItemsCount::new(NOTES)).bench_local(|| {
        for key in keys.iter().cycle().take(NOTES) {
            spool.renew(*key, &row).expect("room");
        }
    });
}
