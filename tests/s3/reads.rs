//! Reads through a network and a server that fail.

use std::time::{Duration, Instant};

use futures::future::join_all;
use penstock::{
    adapters::s3::{Patience, S3Blobs, S3Settings},
    telemetry::Metrics,
};
use penstock_actors::ports::{BlobStore as _, PortError};

use crate::{
    metric,
    s3::TestBuckets,
    s3_proxy::{Fault, S3Proxy},
};

const SIZE: usize = 1 << 20;

/// A store that soon takes silence for a failure.
async fn behind_proxy(buckets: &mut TestBuckets, retry_time: Duration) -> (S3Blobs, Metrics, S3Proxy) {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let patience =
        Patience { idle_timeout: Duration::from_millis(1500), part_timeout: Duration::from_secs(20), retry_time };
    let (blobs, metrics) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    (blobs, metrics, proxy)
}

on_each_client!(a_body_that_is_cut_anywhere_is_taken_up_where_it_broke, async |mut buckets: TestBuckets| {
    let (blobs, metrics, proxy) = behind_proxy(&mut buckets, Duration::from_secs(60)).await;
    let sample = buckets.stored(&blobs, SIZE).await;
    let source = blobs.open(sample.hash).await.unwrap().source;
    let received = || metric(&metrics, "penstock_s3_bytes_total", "read");
    let retries = || metric(&metrics, "penstock_s3_retries_total", "get");
    let some = (1..8).map(|n| n * 137_351 % SIZE);
    for at in [0, 1, 8191, 65_536, SIZE / 2, SIZE - 1].into_iter().chain(some) {
        let (bytes_before, retries_before) = (received(), retries());
        proxy.break_next(1, "get", "data", Fault::CutBody(at));
        assert_eq!(source.read_at(0, SIZE).await.unwrap(), sample.bytes, "cut at {at}");
        assert_eq!(received() - bytes_before, SIZE as f64, "cut at {at}: no byte is asked for twice");
        assert_eq!(retries() - retries_before, 1.0, "cut at {at}");
        proxy.heal();
    }
    // Again and again, as long as it moves on.
    let mut at = 0;
    proxy.rule(move |seen| {
        at += 1;
        (seen.is("get", "data") && at < 12).then_some(Fault::CutBody(70_001))
    });
    assert_eq!(source.read_at(0, SIZE).await.unwrap(), sample.bytes);
});

on_each_client!(a_fault_that_passes_is_not_noticed, async |mut buckets: TestBuckets| {
    let (blobs, metrics, proxy) = behind_proxy(&mut buckets, Duration::from_secs(60)).await;
    let sample = buckets.stored(&blobs, SIZE).await;
    for fault in [
        Fault::Answer(500, "InternalError"),
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(503, "ServiceUnavailable"),
        Fault::Answer(429, "TooManyRequests"),
        Fault::Reset,
        Fault::Lose,
        Fault::Hang,
        Fault::StallBody(300_000),
        Fault::CutBody(0),
        Fault::Late(Duration::from_millis(200)),
    ] {
        // A store whose memory is empty: the manifest is read too.
        let (fresh, _) = buckets
            .open(&S3Settings {
                patience: Patience {
                    idle_timeout: Duration::from_millis(1500),
                    part_timeout: Duration::from_secs(20),
                    retry_time: Duration::from_secs(60),
                },
                ..buckets.settings()
            })
            .await
            .unwrap();
        proxy.break_next(2, "get", "blobs", fault);
        proxy.break_next(2, "get", "data", fault);
        let blob = fresh.open(sample.hash).await.unwrap();
        assert_eq!(blob.source.read_at(0, SIZE).await.unwrap(), sample.bytes, "{fault:?}");
        proxy.heal();
    }
    let requests = |outcome| metric(&metrics, "penstock_s3_requests_total", outcome);
    assert!(requests("operation=\"put\",outcome=\"ok\"") >= 3.0);
    assert_eq!(requests("outcome=\"error\""), 0.0, "of this store, nothing failed");
});

on_each_client!(a_fault_that_stays_is_an_error_in_time_and_never_a_short_read, async |mut buckets: TestBuckets| {
    let (blobs, metrics, proxy) = behind_proxy(&mut buckets, Duration::from_secs(2)).await;
    let sample = buckets.stored(&blobs, SIZE).await;
    let source = blobs.open(sample.hash).await.unwrap().source;
    for (fault, outcome) in [
        (Fault::Answer(500, "InternalError"), "error"),
        (Fault::Answer(503, "SlowDown"), "throttled"),
        (Fault::Reset, "error"),
        (Fault::Hang, "timeout"),
        // Something comes, but less than the slowest line carries.
        (Fault::StallBody(30_000), "timeout"),
        (Fault::CutBody(0), "error"),
    ] {
        let before = metric(&metrics, "penstock_s3_requests_total", outcome);
        proxy.break_next(usize::MAX, "get", "data", fault);
        let error = source.read_at(0, SIZE).await.unwrap_err();
        assert!(matches!(error, PortError::Unavailable { .. }), "{fault:?}: {error}");
        proxy.heal();
        assert!(metric(&metrics, "penstock_s3_requests_total", outcome) > before, "{fault:?}");
        assert_eq!(source.read_at(0, SIZE).await.unwrap(), sample.bytes, "{fault:?} is over");
    }
});

on_each_client!(what_will_be_refused_again_is_not_repeated, async |mut buckets: TestBuckets| {
    let (blobs, _, proxy) = behind_proxy(&mut buckets, Duration::from_secs(60)).await;
    let sample = buckets.stored(&blobs, SIZE).await;
    let source = blobs.open(sample.hash).await.unwrap().source;
    for (fault, unavailable) in [
        (Fault::Answer(403, "AccessDenied"), true),
        (Fault::Answer(404, "NoSuchBucket"), true),
        (Fault::Answer(400, "InvalidRequest"), false),
    ] {
        proxy.seen();
        proxy.break_next(usize::MAX, "get", "data", fault);
        let error = source.read_at(0, SIZE).await.unwrap_err();
        assert_eq!(matches!(error, PortError::Unavailable { .. }), unavailable, "{fault:?}: {error}");
        assert_eq!(proxy.seen().len(), 1, "{fault:?}");
        proxy.heal();
    }
});

on_each_client!(
    the_first_byte_takes_two_round_trips_and_one_when_the_manifest_is_known,
    async |mut buckets: TestBuckets| {
        let (blobs, _, proxy) = behind_proxy(&mut buckets, Duration::from_secs(60)).await;
        let sample = buckets.stored(&blobs, SIZE).await;
        let (fresh, _) = buckets.open(&buckets.settings()).await.unwrap();
        proxy.seen();
        fresh.open(sample.hash).await.unwrap().source.read_at(0, 10).await.unwrap();
        let mut asked: Vec<_> = proxy.seen();
        asked.retain(|seen| !seen.is("get", "blobs"));
        assert_eq!(asked.len(), 1, "beside the look-ups of the manifest, which are side by side: {asked:?}");
        fresh.open(sample.hash).await.unwrap().source.read_at(0, 10).await.unwrap();
        assert_eq!(proxy.seen().len(), 1);
    }
);

on_each_client!(however_many_calls_an_outage_meets_the_storage_gets_few_requests, async |mut buckets: TestBuckets| {
    const CALLS: usize = 200;
    let (blobs, _, proxy) = behind_proxy(&mut buckets, Duration::from_secs(3)).await;
    let sample = buckets.stored(&blobs, SIZE).await;
    let source = blobs.open(sample.hash).await.unwrap().source;
    let reads = || join_all((0..CALLS).map(|_| source.read_at(0, 10)));
    proxy.break_next(usize::MAX, "get", "data", Fault::Answer(503, "ServiceUnavailable"));
    // Each of the first calls may find out for itself.
    assert!(reads().await.iter().all(|answer| matches!(answer, Err(PortError::Unavailable { .. }))));
    proxy.seen();
    let began = Instant::now();
    assert!(reads().await.iter().all(|answer| matches!(answer, Err(PortError::Unavailable { .. }))));
    // One in a pause, which is at least half a second by now.
    let most = 1 + began.elapsed().as_millis() / 500;
    let seen = proxy.seen().len() as u128;
    assert!((1..=most).contains(&seen), "{seen} requests for {CALLS} calls, of at most {most}");

    // Those that wait when it comes back succeed.
    let waiting = reads();
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.heal();
    };
    let (answers, ()) = tokio::join!(waiting, comes_back);
    assert!(
        answers.iter().all(|answer| answer.as_ref().is_ok_and(|bytes| bytes[..] == sample.bytes[..10])),
        "{answers:?}"
    );
});
