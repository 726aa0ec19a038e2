//! One content in several buckets, and what readers see of it.

use std::time::Duration;

use penstock_actors::ports::{BlobStore as _, BlobTrash as _, PortError};

use crate::{
    HOT, listed, manifest, read_whole,
    s3::{BUCKETS, TestBuckets},
    s3_proxy::{Fault, S3Proxy},
    sweep,
};

const COLD: &str = BUCKETS[2];

/// Copies a content as a move between tiers does: its data first, then its manifest.
async fn copy(buckets: &TestBuckets, manifest: &str, from: &str, to: &str) {
    let data = buckets.only_data(from).await;
    buckets.put(to, &data, buckets.get(from, &data).await).await;
    buckets.put(to, manifest, buckets.get(from, manifest).await).await;
}

/// Takes a content out of a bucket, its manifest first.
async fn take_away(buckets: &TestBuckets, manifest: &str, from: &str) {
    buckets.remove(from, manifest).await;
    buckets.remove(from, &buckets.only_data(from).await).await;
}

on_each_client!(content_in_a_colder_tier_is_content, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 3_000_000).await;
    copy(&buckets, &manifest(&sample), HOT, COLD).await;
    assert_eq!(listed(&blobs).await, [sample.hash], "in two tiers it is one content");
    take_away(&buckets, &manifest(&sample), HOT).await;
    let blobs = buckets.store().await;
    assert!(blobs.exists(sample.hash).await.unwrap());
    assert_eq!(listed(&blobs).await, [sample.hash]);
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    sample.store(&blobs).await.unwrap();
    assert!(buckets.keys(HOT, "data").await.is_empty(), "it is not stored twice");
    assert!(blobs.retire(sample.hash).await.unwrap());
    assert!(!blobs.exists(sample.hash).await.unwrap());
    blobs.restore(sample.hash).await.unwrap();
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    assert!(blobs.retire(sample.hash).await.unwrap());
    blobs.discard(sample.hash).await.unwrap();
    blobs.purge(sample.hash).await.unwrap();
    sweep(&blobs, Duration::ZERO).await;
    assert_eq!(buckets.leftovers().await, [0; 4]);
});

on_each_client!(the_hottest_tier_is_preferred, async |mut buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 1000).await;
    copy(&buckets, &manifest(&sample), HOT, COLD).await;
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let blobs = buckets.store().await;
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    let reads: Vec<_> = proxy.seen().into_iter().filter(|seen| seen.is("get", "data")).collect();
    assert_eq!(reads.len(), 1);
    assert!(reads[0].target.contains(HOT), "{reads:?}");
});

on_each_client!(readers_never_notice_that_a_content_moves, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 1000).await;
    let open = blobs.open(sample.hash).await.unwrap().source;
    copy(&buckets, &manifest(&sample), HOT, COLD).await;
    take_away(&buckets, &manifest(&sample), HOT).await;
    assert_eq!(open.read_at(10, 500).await.unwrap(), sample.bytes[10..510]);
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
    // And back again.
    copy(&buckets, &manifest(&sample), COLD, HOT).await;
    take_away(&buckets, &manifest(&sample), COLD).await;
    assert_eq!(open.read_at(10, 500).await.unwrap(), sample.bytes[10..510]);
});

on_each_client!(a_tier_that_is_down_hides_only_what_it_alone_has, async |mut buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let (hot, cold) = (buckets.stored(&blobs, 1000).await, buckets.stored(&blobs, 2000).await);
    for key in buckets.keys(HOT, "data").await {
        buckets.put(COLD, &key, buckets.get(HOT, &key).await).await;
    }
    buckets.put(COLD, &manifest(&cold), buckets.get(HOT, &manifest(&cold)).await).await;
    buckets.remove(HOT, &manifest(&cold)).await;
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let settings = buckets.settings();
    let patience = penstock::adapters::s3::Patience { retry_time: Duration::from_secs(1), ..settings.patience };
    let (blobs, _) = buckets.open(&penstock::adapters::s3::S3Settings { patience, ..settings }).await.unwrap();
    proxy.rule(|seen| seen.target.contains(HOT).then_some(Fault::Answer(500, "InternalError")));
    assert_eq!(read_whole(&blobs, &cold).await.unwrap(), cold.bytes);
    assert!(
        matches!(blobs.open(hot.hash).await, Err(PortError::Unavailable { .. })),
        "nobody can tell that it is not there"
    );
    assert!(blobs.exists(cold.hash).await.is_err());
    assert!(blobs.ping().await.unwrap_err().to_string().contains("the hot bucket: 500"));
    proxy.heal();
    assert_eq!(read_whole(&blobs, &hot).await.unwrap(), hot.bytes);
});
