//! The clock of the storage: ages of objects count while it agrees with the proven time.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use penstock_actors::{
    clock::{Clock as _, ledger_clock::LedgerClock, watch::ClockWatch},
    model::StorageTier,
    ports::BlobTrash as _,
    testkit::{
        clock::ManualClock,
        memory_time::{MemoryTime, WATCH},
    },
};

use crate::s3::TestBuckets;

/// A watch over clocks that show this time.
fn watch_at(time: Timestamp) -> (Arc<ManualClock>, ClockWatch) {
    let machine = Arc::new(ManualClock::at("2026-01-01T00:00:00Z"));
    machine.set(time);
    let database = Arc::new(MemoryTime::new(machine.clone()));
    let clock = Arc::new(LedgerClock::new(machine.clone(), database.clone()));
    (machine, ClockWatch::new(clock, database, WATCH))
}

on_each_client!(the_clock_of_the_storage_is_read_and_compared, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let asked = Timestamp::now();
    let clocks = blobs.clocks().await.unwrap();
    let answered = Timestamp::now();
    assert_eq!(clocks.iter().map(|clock| clock.tier).collect::<Vec<_>>(), StorageTier::ALL);
    for (hours, agrees) in [(0, true), (1, false), (-1, false), (31 * 24, false), (-31 * 24, false)] {
        let off = SignedDuration::from_hours(hours);
        let (_, watch) = watch_at(asked + off);
        assert_eq!(watch.agrees_with(&clocks, asked + off, answered + off), agrees, "{hours} hours off");
    }
    // It shows the time of now, and not that of the first look.
    let (machine, watch) = watch_at(Timestamp::now());
    let clocks = blobs.clocks().await.unwrap();
    assert!(watch.agrees_with(&clocks, machine.now(), Timestamp::now()));
    assert!(blobs.list(None, Duration::ZERO, 10).await.unwrap().is_empty(), "the probe is no content");
});
