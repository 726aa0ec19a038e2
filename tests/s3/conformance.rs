//! What every blob store promises.

use penstock_actors::testkit::blob_store_suite;

use crate::s3::TestBuckets;

on_each_client!(s3_keeps_the_promises_of_a_blob_store, async |buckets: TestBuckets| {
    blob_store_suite::run(&buckets.store().await).await;
    assert_eq!(buckets.unfinished().await, Vec::<String>::new());
});
