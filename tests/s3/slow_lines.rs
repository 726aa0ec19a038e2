//! Lines that are slow but carry.

use std::time::Duration;

use penstock::adapters::s3::{Patience, S3Settings};

use crate::{
    LARGE,
    proxy::Proxy,
    read_whole,
    s3::TestBuckets,
    s3_proxy::{Fault, S3Proxy},
};

on_each_client!(a_read_may_take_longer_than_any_hang, async |mut buckets: TestBuckets| {
    let sample = buckets.stored(&buckets.store().await, 1 << 20).await;
    let line = Proxy::slow(buckets.endpoint.trim_start_matches("http://").parse().unwrap(), 250_000).await;
    buckets.endpoint = line.url();
    // Four seconds for the content, and something of it several times a second.
    let patience = Patience {
        idle_timeout: Duration::from_secs(1),
        retry_time: Duration::from_secs(1),
        ..buckets.settings().patience
    };
    let (blobs, _) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
});

on_each_client!(a_part_may_take_longer_than_a_storage_that_hangs, async |mut buckets: TestBuckets| {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let patience = Patience { part_timeout: Duration::from_secs(1), ..buckets.settings().patience };
    let (blobs, _) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    proxy.rule(|seen| {
        (seen.is("part", "data") && seen.length > 1 << 20).then_some(Fault::Late(Duration::from_millis(1500)))
    });
    let sample = buckets.stored(&blobs, LARGE).await;
    proxy.heal();
    assert_eq!(read_whole(&blobs, &sample).await.unwrap(), sample.bytes);
});
