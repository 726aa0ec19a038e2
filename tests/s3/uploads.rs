//! Uploads through a network and a server that fail.

use std::time::Duration;

use penstock::adapters::s3::{Patience, S3Settings};
use penstock_actors::{
    ports::{BlobStore as _, PortError},
    testkit::blob_store_suite::Sample,
};

use crate::{
    LARGE, eventually, read_whole,
    s3::TestBuckets,
    s3_proxy::{Fault, S3Proxy},
    sweep, written,
};

/// Each request that an upload makes, small or in parts, with the size of content that makes it.
const REQUESTS: [(&str, &str, usize); 9] = [
    ("get", "blobs", 1000),
    ("put", "uploads", 1000),
    ("put", "data", 1000),
    ("put", "blobs", 1000),
    ("begin", "data", LARGE),
    ("put", "uploads", LARGE),
    ("part", "data", LARGE),
    ("complete", "data", LARGE),
    ("put", "blobs", LARGE),
];

const FAULTS: [Fault; 8] = [
    Fault::Answer(500, "InternalError"),
    Fault::Answer(503, "SlowDown"),
    Fault::Answer(409, "ConditionalRequestConflict"),
    Fault::Reset,
    Fault::CutRequest(0),
    Fault::CutRequest(700),
    Fault::CutRequest(3_000_000),
    Fault::Hang,
];

on_each_client!(an_upload_gets_past_a_fault_that_passes, async |mut buckets: TestBuckets| {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let patience = Patience {
        idle_timeout: Duration::from_secs(3),
        part_timeout: Duration::from_secs(6),
        retry_time: Duration::from_secs(30),
    };
    let (blobs, _) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    let mut stored = 0;
    for (number, (operation, folder, size)) in REQUESTS.into_iter().enumerate() {
        // Each request meets two of them, and each of them is met; all with all would take too long.
        for fault in [FAULTS[number % FAULTS.len()], FAULTS[(number + 3) % FAULTS.len()]] {
            // An upload that was begun, and nobody knows its id, has no parts: what removes it is the bucket's lifecycle.
            if operation == "begin" && matches!(fault, Fault::CutRequest(_)) {
                continue;
            }
            proxy.break_next(1, operation, folder, fault);
            let sample = buckets.stored(&blobs, size).await;
            proxy.heal();
            stored += 1;
            assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes, "{operation} {folder} {fault:?}");
            assert_eq!(buckets.leftovers().await, [stored, 0, 0, 0], "{operation} {folder} {fault:?}");
        }
    }
});

on_each_client!(an_upload_that_cannot_succeed_fails_and_leaves_nothing_behind, async |mut buckets: TestBuckets| {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let patience = Patience {
        idle_timeout: Duration::from_millis(500),
        part_timeout: Duration::from_millis(700),
        retry_time: Duration::from_secs(1),
    };
    let (blobs, _) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    let patient = buckets.store().await;
    for (number, (operation, folder, size)) in REQUESTS.into_iter().enumerate() {
        let fault = FAULTS[(number + 4) % FAULTS.len()];
        let sample = Sample::of(size);
        proxy.break_next(usize::MAX, operation, folder, fault);
        let failed = match written(&blobs, &sample).await {
            Ok(sink) => sink.commit(sample.hash, &sample.leaves).await,
            Err(error) => Err(error),
        };
        let error = failed.unwrap_err();
        assert!(matches!(error, PortError::Unavailable { .. }), "{operation} {folder} {fault:?}: {error}");
        proxy.heal();
        assert!(!blobs.exists(sample.hash).await.unwrap(), "{operation} {folder} {fault:?}");
        // At once, except for a manifest that may have been written: that is for the sweep to see.
        eventually("nothing is left", async || {
            if folder == "blobs" || size == 1000 {
                sweep(&patient, Duration::ZERO).await;
            }
            buckets.leftovers().await == [0; 4]
        })
        .await;
    }
});

on_each_client!(parts_that_are_under_way_are_bounded, async |mut buckets: TestBuckets| {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let blobs = buckets.store().await;
    proxy.break_next(usize::MAX, "part", "data", Fault::Hang);
    let sample = Sample::of(6 * (5 << 20));
    let mut sink = blobs.create().await.unwrap();
    // Two parts that hang, one that is full, and a write that waits.
    for part in 0..3 {
        sink.write(sample.bytes.slice(part * (5 << 20)..(part + 1) * (5 << 20))).await.unwrap();
    }
    let next = sink.write(sample.bytes.slice(3 * (5 << 20)..));
    assert!(tokio::time::timeout(Duration::from_millis(300), next).await.is_err(), "it waits for room");
    let parts = proxy.seen().into_iter().filter(|seen| seen.is("part", "data"));
    assert!(parts.count() <= 2);
    proxy.heal();
    drop(sink);
    eventually("nothing is left", async || buckets.leftovers().await == [0; 4]).await;
});
