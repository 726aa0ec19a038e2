//! What a commit leaves, whatever ends it, and what the sweep makes of it.

use std::time::Duration;

use penstock::{
    adapters::s3::{Patience, S3Blobs, S3Settings},
    config::S3Client,
};
use penstock_actors::{
    ports::{BlobStore as _, BlobTrash as _, PortError, Sweep},
    testkit::blob_store_suite::Sample,
};

use crate::{
    HOT, LARGE, OLD, eventually, listed, manifest, read_whole,
    s3::TestBuckets,
    s3_proxy::{Fault, S3Proxy},
    sweep, written,
};

/// A store behind a proxy, with little patience.
async fn behind_proxy(buckets: &mut TestBuckets) -> (S3Blobs, S3Proxy) {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let patience = Patience { part_timeout: Duration::from_secs(5), ..buckets.settings().patience };
    let (blobs, _) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    (blobs, proxy)
}

on_each_client!(a_content_is_its_bytes_and_a_manifest_and_nothing_else, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    for (number, size) in [1000, 5 << 20, (5 << 20) + 1, LARGE].into_iter().enumerate() {
        let before = buckets.keys(HOT, "data").await;
        let sample = buckets.stored(&blobs, size).await;
        assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
        let new: Vec<_> = buckets.keys(HOT, "data").await.into_iter().filter(|key| !before.contains(key)).collect();
        assert_eq!(new.len(), 1);
        assert!(buckets.get(HOT, &new[0]).await == sample.bytes, "any tool can read the bytes");
        assert_eq!(buckets.leftovers().await, [number + 1, 0, 0, 0]);
    }
});

on_each_client!(the_same_content_again_costs_no_room, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    for (number, size) in [1000, LARGE].into_iter().enumerate() {
        let sample = buckets.stored(&blobs, size).await;
        sample.store(&blobs).await.unwrap();
        let (one, other) = (written(&blobs, &sample).await.unwrap(), written(&blobs, &sample).await.unwrap());
        let commits =
            futures::join!(one.commit(sample.hash, &sample.leaves), other.commit(sample.hash, &sample.leaves));
        assert!(commits.0.is_ok() && commits.1.is_ok());
        assert_eq!(buckets.leftovers().await, [number + 1, 0, 0, 0]);
        assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    }
});

on_each_client!(a_large_upload_that_is_dropped_leaves_nothing, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sink = written(&blobs, &Sample::of(LARGE)).await.unwrap();
    assert_eq!(buckets.leftovers().await, [0, 1, 0, 1], "a marker, and an upload under way");
    drop(sink);
    eventually("nothing is left", async || buckets.leftovers().await == [0; 4]).await;
});

on_each_client!(an_upload_that_a_crash_cut_off_is_swept_up_when_it_is_old, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = Sample::of(LARGE);
    // As after a kill: nobody cleans up.
    std::mem::forget(written(&blobs, &sample).await.unwrap());
    assert_eq!(sweep(&blobs, OLD).await, Sweep::default());
    let found = blobs.sweep(Duration::ZERO, usize::MAX, true).await.unwrap();
    assert_eq!(found.files, 1);
    assert_eq!(buckets.leftovers().await, [0, 1, 0, 1], "a dry run removes nothing");
    assert_eq!(blobs.sweep(Duration::ZERO, 0, false).await.unwrap(), Sweep::default());
    // A part may have been under way when the upload was aborted, so that the storage has to be told again.
    eventually("nothing is left", async || {
        sweep(&blobs, Duration::ZERO).await;
        buckets.leftovers().await == [0; 4]
    })
    .await;
    assert!(!blobs.exists(sample.hash).await.unwrap());
});

on_each_client!(an_upload_whose_data_a_sweep_took_is_not_made_visible, async |buckets: TestBuckets| {
    let (blobs, other) = (buckets.store().await, buckets.store().await);
    let sample = Sample::of(LARGE);
    let sink = written(&blobs, &sample).await.unwrap();
    assert_eq!(sweep(&other, Duration::ZERO).await.files, 1);
    assert!(sink.commit(sample.hash, &sample.leaves).await.is_err());
    assert!(!blobs.exists(sample.hash).await.unwrap());
    eventually("nothing is left", async || buckets.leftovers().await == [0; 4]).await;
});

on_each_client!(a_slow_upload_shows_the_sweep_that_it_goes_on, async |buckets: TestBuckets| {
    // So that each write is one after a long time.
    let settings = S3Settings { unfinished_age: Duration::ZERO, ..buckets.settings() };
    let (blobs, _) = buckets.open(&settings).await.unwrap();
    let sample = Sample::of(LARGE);
    let sink = written(&blobs, &sample).await.unwrap();
    let marker = buckets.keys(HOT, "uploads").await.remove(0);
    let text = String::from_utf8(buckets.get(HOT, &marker).await).unwrap();
    assert!(text.contains(&format!("\"sizeBytes\":{LARGE}")), "{text}");
    sink.commit(sample.hash, &sample.leaves).await.unwrap();
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    assert_eq!(buckets.leftovers().await, [1, 0, 0, 0]);
});

on_each_client!(a_write_whose_answer_was_lost_is_recognised, async |mut buckets: TestBuckets| {
    let (blobs, proxy) = behind_proxy(&mut buckets).await;
    let requests = [
        ("put", "uploads", 1000),
        ("put", "data", 1000),
        ("put", "blobs", 1000),
        ("delete", "uploads", 1000),
        ("put", "uploads", LARGE),
        ("part", "data", LARGE),
        ("complete", "data", LARGE),
        ("put", "blobs", LARGE),
    ];
    for (number, (operation, folder, size)) in requests.into_iter().enumerate() {
        proxy.break_next(1, operation, folder, Fault::Lose);
        let sample = buckets.stored(&blobs, size).await;
        proxy.heal();
        assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes, "{operation} {folder}");
        let left = buckets.leftovers().await;
        assert_eq!(left, [number + 1, 0, 0, 0], "{operation} {folder} of {size} bytes");
    }
});

on_each_client!(
    a_commit_that_cannot_tell_what_it_did_leaves_the_truth_to_the_sweep,
    async |mut buckets: TestBuckets| {
        let (blobs, proxy) = behind_proxy(&mut buckets).await;
        // The manifest is written, and nobody is told.
        proxy.break_next(usize::MAX, "put", "blobs", Fault::Lose);
        let done = Sample::of(1000);
        proxy.break_next(usize::MAX, "get", "blobs", Fault::Reset);
        let settings = S3Settings {
            patience: Patience {
                idle_timeout: Duration::from_millis(500),
                part_timeout: Duration::from_millis(500),
                retry_time: Duration::from_secs(1),
            },
            ..buckets.settings()
        };
        let (hasty, _) = buckets.open(&settings).await.unwrap();
        assert!(matches!(done.store(&hasty).await, Err(PortError::Unavailable { .. })));
        proxy.heal();
        // .. or it is not written.
        proxy.break_next(usize::MAX, "put", "blobs", Fault::Answer(500, "InternalError"));
        let not_done = Sample::of(LARGE);
        assert!(matches!(not_done.store(&hasty).await, Err(PortError::Unavailable { .. })));
        proxy.heal();
        sweep(&blobs, Duration::ZERO).await;
        eventually("what is left is what is named", async || {
            sweep(&blobs, Duration::ZERO).await;
            let named = usize::from(blobs.exists(done.hash).await.unwrap());
            buckets.leftovers().await == [named, 0, 0, 0]
        })
        .await;
        assert!(!blobs.exists(not_done.hash).await.unwrap());
    }
);

on_each_client!(a_storage_without_conditional_writes_does_as_well, async |mut buckets: TestBuckets| {
    let (blobs, proxy) = behind_proxy(&mut buckets).await;
    proxy.break_next(1, "put", "blobs", Fault::Answer(501, "NotImplemented"));
    let sample = buckets.stored(&blobs, 1000).await;
    sample.store(&blobs).await.unwrap();
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    assert_eq!(buckets.leftovers().await, [1, 0, 0, 0]);
});

on_each_client!(uploading_damaged_content_again_heals_it, async |buckets: TestBuckets| {
    let (blobs, other) = (buckets.store().await, buckets.store().await);
    for size in [1000, LARGE] {
        let sample = buckets.stored(&blobs, size).await;
        let open = other.open(sample.hash).await.unwrap().source;
        for damage in ["data is lost", "data is cut", "the manifest is rotten"] {
            match damage {
                "data is lost" => buckets.remove(HOT, &buckets.only_data(HOT).await).await,
                "data is cut" => buckets.put(HOT, &buckets.only_data(HOT).await, vec![1; size / 2]).await,
                _ => buckets.put(HOT, &manifest(&sample), vec![1; 300]).await,
            }
            let fresh = buckets.store().await;
            let error = read_whole(&fresh, &sample).await.unwrap_err();
            assert!(matches!(error, PortError::NotFound(_) | PortError::Corrupt(_)), "{damage}: {error}");
            sample.store(&fresh).await.unwrap();
            assert_eq!(read_whole(&fresh, &sample).await.unwrap(), sample.bytes, "{damage}");
            // Those who had it open before go on with the new data.
            assert_eq!(open.read_at(0, size).await.unwrap(), sample.bytes, "{damage}");
            sweep(&fresh, Duration::ZERO).await;
            let left = buckets.leftovers().await;
            if damage == "the manifest is rotten" {
                // Nobody can tell which data it named.
                assert_eq!(left, [2, 0, 0, 0], "{damage}");
            } else {
                assert_eq!(left, [1, 0, 0, 0], "{damage}");
            }
        }
        assert!(blobs.retire(sample.hash).await.unwrap());
        blobs.discard(sample.hash).await.unwrap();
        blobs.purge(sample.hash).await.unwrap();
        for key in buckets.keys(HOT, "data").await {
            buckets.remove(HOT, &key).await;
        }
        sweep(&blobs, Duration::ZERO).await;
    }
});

on_each_client!(what_is_purged_stays_readable_until_a_sweep_finds_it_old, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 1000).await;
    let source = blobs.open(sample.hash).await.unwrap().source;
    assert!(blobs.retire(sample.hash).await.unwrap());
    assert_eq!(buckets.leftovers().await, [1, 0, 1, 0]);
    blobs.discard(sample.hash).await.unwrap();
    blobs.purge(sample.hash).await.unwrap();
    assert_eq!(buckets.leftovers().await, [1, 1, 0, 0]);
    assert_eq!(sweep(&blobs, OLD).await, Sweep::default());
    assert_eq!(source.read_at(0, 1000).await.unwrap(), sample.bytes);
    assert_eq!(sweep(&blobs, Duration::ZERO).await, Sweep { files: 1, bytes: 1000, refused: 0 });
    assert_eq!(buckets.leftovers().await, [0; 4]);
    assert!(matches!(source.read_at(0, 1000).await, Err(PortError::NotFound(_))));
});

on_each_client!(a_sweep_undoes_an_unfinished_retirement, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 1000).await;
    let text = buckets.get(HOT, &manifest(&sample)).await;
    assert!(blobs.retire(sample.hash).await.unwrap());
    sweep(&blobs, OLD).await;
    blobs.sweep(Duration::ZERO, usize::MAX, true).await.unwrap();
    assert!(!blobs.exists(sample.hash).await.unwrap(), "neither a young retirement nor a dry run changes anything");
    sweep(&blobs, Duration::ZERO).await;
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    // A kill between the two steps of a retirement.
    buckets.put(HOT, &manifest(&sample).replace("blobs", "retired"), text).await;
    assert!(blobs.exists(sample.hash).await.unwrap());
    for _ in 0..2 {
        sweep(&blobs, Duration::ZERO).await;
    }
    assert_eq!(read_whole(&buckets.store().await, &sample).await.unwrap(), sample.bytes);
    assert_eq!(buckets.leftovers().await, [1, 0, 0, 0]);
});

on_each_client!(what_is_not_the_stores_own_is_left_alone, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 1000).await;
    buckets.put(HOT, "uploads/notes.txt", b"not a marker".to_vec()).await;
    buckets.put(HOT, "blobs/ab/notes.txt", b"not a manifest".to_vec()).await;
    buckets.put(HOT, "retired/ab/notes.txt", b"not a manifest".to_vec()).await;
    assert_eq!(sweep(&blobs, Duration::ZERO).await, Sweep::default());
    assert_eq!(listed(&blobs).await, [sample.hash]);
    assert_eq!(buckets.leftovers().await, [1, 1, 1, 0]);
});

on_each_client!(
    an_upload_that_the_storage_refuses_to_remove_is_set_aside_and_tried_rarely,
    async |mut buckets: TestBuckets| {
        let (_, proxy) = behind_proxy(&mut buckets).await;
        let settings = S3Settings { unfinished_age: Duration::from_millis(100), ..buckets.settings() };
        let (blobs, _) = buckets.open(&settings).await.unwrap();
        std::mem::forget(written(&blobs, &Sample::of(LARGE)).await.unwrap());
        proxy.rule(|seen| seen.is("abort", "data").then_some(Fault::Answer(403, "AccessDenied")));
        let refused = Sweep { refused: 1, ..Sweep::default() };
        assert_eq!(sweep(&blobs, OLD).await, Sweep::default());
        assert_eq!(sweep(&blobs, Duration::ZERO).await, refused, "it is no failure");
        assert_eq!(buckets.leftovers().await, [0, 0, 0, 1], "it is in nobody's way");
        assert_eq!(buckets.all_keys("refused").await.len(), 1);
        // Since the last time.
        let attempts = || proxy.seen().iter().filter(|seen| seen.is("abort", "data")).count();
        assert!(attempts() > 0);
        for _ in 0..3 {
            assert_eq!(sweep(&blobs, OLD).await, refused, "it is told of, and not tried again each time");
        }
        assert_eq!(attempts(), 0);
        assert_eq!(blobs.sweep(Duration::ZERO, usize::MAX, true).await.unwrap(), refused);
        eventually("it is tried again, in vain", async || {
            assert_eq!(sweep(&blobs, Duration::ZERO).await, refused);
            attempts() > 0
        })
        .await;
        proxy.heal();
        eventually("nothing is left", async || {
            sweep(&blobs, Duration::ZERO).await == Sweep::default() && buckets.unfinished().await.is_empty()
        })
        .await;
        assert!(buckets.all_keys("refused").await.is_empty());
    }
);

/// As for a rehearsal, or after a move: manifests were written with the keys of the first one's data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_store_under_another_prefix_stands_by_itself_and_takes_nothing_from_the_first() {
    let [first, second] = [(); 2].map(|()| TestBuckets::new(S3Client::ObjectStore));
    let (blobs, copy) = (first.store().await, second.store().await);
    let sample = first.stored(&blobs, LARGE).await;
    for folder in ["blobs", "data"] {
        for key in first.keys(HOT, folder).await {
            second.put(HOT, &key, first.get(HOT, &key).await).await;
        }
    }
    assert_eq!(read_whole(&copy, &sample).await.unwrap(), sample.bytes);
    assert!(copy.retire(sample.hash).await.unwrap());
    copy.discard(sample.hash).await.unwrap();
    copy.purge(sample.hash).await.unwrap();
    assert_eq!(sweep(&copy, Duration::ZERO).await.files, 1);
    assert_eq!((second.leftovers().await, first.leftovers().await), ([0; 4], [1, 0, 0, 0]));
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);

    let moved = first.store().await;
    sample.store(&copy).await.unwrap();
    for key in first.keys(HOT, "data").await {
        first.remove(HOT, &key).await;
    }
    assert!(read_whole(&moved, &sample).await.is_err());
    assert_eq!(read_whole(&copy, &sample).await.unwrap(), sample.bytes, "it needs nothing of the first one");
}
