//! A node on S3 that fails as a test says.

use penstock::config::S3Client;

use crate::{
    node::{On, Setup, TestNode},
    s3::TestBuckets,
    s3_proxy::S3Proxy,
};

/// A node on S3 behind a proxy. It has little patience, so that it soon knows what stays down.
pub(crate) async fn node_behind_a_proxy(
    more: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> (TestBuckets, S3Proxy, TestNode) {
    let mut buckets = TestBuckets::new(S3Client::ObjectStore);
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    let node = Setup::new(On::Sqlite)
        .envs(buckets.env())
        .env("PENSTOCK_S3__IDLE_TIMEOUT", "1s")
        .env("PENSTOCK_S3__RETRY_TIME", "3s")
        .env("PENSTOCK_S3__PART_TIMEOUT", "3s")
        // Faults are counted by request, so the node reads only what the test asks for.
        .env("PENSTOCK_VERIFICATION__RATE", "0B")
        .envs(more.into_iter().map(|(name, value)| (name, value.to_owned())))
        .start()
        .await;
    (buckets, proxy, node)
}
