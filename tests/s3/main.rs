//! The S3 store against a real server, by each client: its port's suite, what commits and crashes leave, tiers, and faults
//! between it and the server.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/s3.rs"]
#[macro_use]
mod s3;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/s3_proxy.rs"]
mod s3_proxy;

mod clocks;
mod commits;
mod configuration;
mod conformance;
mod credentials;
mod reads;
mod slow_lines;
mod tiers;
mod uploads;
mod urls;

use std::time::Duration;

use bytes::Bytes;
use penstock::{adapters::s3::S3Blobs, telemetry::Metrics};
use penstock_actors::{
    ids::ContentHash,
    ports::{BlobSink, BlobStore as _, BlobTrash as _, PortResult, Sweep},
    testkit::blob_store_suite::Sample,
};

use crate::{
    patience::eventually,
    s3::{BUCKETS, TestBuckets},
};

/// An age that nothing of a test run reaches.
const OLD: Duration = Duration::from_secs(3600);

/// More than one part of the smallest size.
const LARGE: usize = (5 << 20) + 4321;

const HOT: &str = BUCKETS[0];

impl TestBuckets {
    async fn stored(&self, blobs: &S3Blobs, size: usize) -> Sample {
        let sample = Sample::of(size);
        sample.store(blobs).await.unwrap();
        sample
    }

    /// Data, markers, retired manifests, and uploads in parts, in all buckets.
    async fn leftovers(&self) -> [usize; 4] {
        [
            self.all_keys("data").await.len(),
            self.all_keys("uploads").await.len(),
            self.all_keys("retired").await.len(),
            self.unfinished().await.len(),
        ]
    }

    /// The key of the only data that there is.
    async fn only_data(&self, bucket: &str) -> String {
        let mut keys = self.keys(bucket, "data").await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys.remove(0)
    }
}

fn manifest(sample: &Sample) -> String {
    let name = sample.hash.to_string();
    format!("blobs/{}/{name}", &name[..2])
}

/// A sink that has taken a sample.
async fn written(blobs: &S3Blobs, sample: &Sample) -> PortResult<Box<dyn BlobSink>> {
    let mut sink = blobs.create().await?;
    for start in (0..sample.bytes.len()).step_by(1 << 20) {
        sink.write(sample.bytes.slice(start..sample.bytes.len().min(start + (1 << 20)))).await?;
    }
    Ok(sink)
}

async fn read_whole(blobs: &S3Blobs, sample: &Sample) -> PortResult<Bytes> {
    let blob = blobs.open(sample.hash).await?;
    assert_eq!((blob.size_bytes, &*blob.leaves), (sample.bytes.len() as u64, &*sample.leaves));
    blob.source.read_at(0, sample.bytes.len()).await
}

async fn listed(blobs: &S3Blobs) -> Vec<ContentHash> {
    let listed = blobs.list(None, Duration::ZERO, usize::MAX).await.unwrap();
    listed.into_iter().map(|listed| listed.hash).collect()
}

async fn sweep(blobs: &S3Blobs, min_age: Duration) -> Sweep {
    blobs.sweep(min_age, usize::MAX, false).await.unwrap()
}

/// The sum of a metric over its series whose labels contain `labels`.
fn metric(metrics: &Metrics, name: &str, labels: &str) -> f64 {
    let page = metrics.render().unwrap();
    let lines = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values =
        lines.filter(|line| line.contains(labels)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}
