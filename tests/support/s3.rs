//! Buckets of one's own: a prefix that nobody else uses, in the buckets of the server that the test command has started, and a
//! look behind what the store does with them.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{env, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use object_store::{
    ClientOptions, ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
    signer::{Method, SignedUrlOptions, Signer as _},
};
use penstock::{
    adapters::s3::{AccessKey, Connection, Patience, S3Blobs, S3Settings},
    config::S3Client,
    telemetry::Metrics,
};
use penstock_actors::ports::PortResult;
use tokio::runtime::Handle;
use uuid::Uuid;

/// The buckets that the test command makes, the hottest first.
pub(crate) const BUCKETS: [&str; 3] = ["penstock-hot", "penstock-warm", "penstock-cold"];

/// What the test command says of its server.
pub(crate) fn told(what: &str) -> String {
    let name = format!("PENSTOCK_TEST_S3_{what}");
    env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: run ./test"))
}

/// A part of the buckets for one test.
pub(crate) struct TestBuckets {
    pub(crate) client: S3Client,
    /// Where the store finds the server: itself, or a proxy in front of it.
    pub(crate) endpoint: String,
    pub(crate) prefix: String,
}

impl TestBuckets {
    pub(crate) fn new(client: S3Client) -> Self {
        let prefix = format!("test/{}", Uuid::new_v4().simple());
        Self { client, endpoint: told("ENDPOINT"), prefix }
    }

    /// Settings that are generous where a test is about something else.
    pub(crate) fn settings(&self) -> S3Settings {
        let [hot, warm, cold] = BUCKETS.map(str::to_owned);
        S3Settings {
            connection: Connection {
                client: self.client,
                endpoint: Some(self.endpoint.clone()),
                public_endpoint: None,
                region: "us-east-1".to_owned(),
                access_key: Some(AccessKey { id: told("ACCESS_KEY"), secret: told("SECRET_KEY") }),
                connect_timeout: Duration::from_secs(20),
            },
            bucket_hot: hot,
            bucket_warm: Some(warm),
            bucket_cold: Some(cold),
            prefix: self.prefix.clone(),
            part_bytes: 5 << 20,
            parts_in_flight: 2,
            patience: Patience {
                idle_timeout: Duration::from_secs(20),
                part_timeout: Duration::from_secs(30),
                retry_time: Duration::from_secs(30),
            },
            unfinished_age: Duration::from_secs(3600),
        }
    }

    pub(crate) async fn store(&self) -> S3Blobs {
        self.open(&self.settings()).await.expect("a store").0
    }

    /// A store with these settings, and what it measures.
    pub(crate) async fn open(&self, settings: &S3Settings) -> PortResult<(S3Blobs, Metrics)> {
        let metrics = Metrics::new().expect("metrics");
        let blobs = S3Blobs::open(settings, Arc::clone(&metrics.s3), Handle::current()).await?;
        Ok((blobs, metrics))
    }

    /// The variables by which a node finds these buckets.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        let client = if self.client == S3Client::Rusoto { "rusoto" } else { "object_store" };
        vec![
            ("STORAGE_BACKEND", "s3".to_owned()),
            ("S3_CLIENT", client.to_owned()),
            ("S3_ENDPOINT", self.endpoint.clone()),
            ("S3_REGION", "us-east-1".to_owned()),
            ("S3_BUCKET_HOT", BUCKETS[0].to_owned()),
            ("S3_BUCKET_WARM", BUCKETS[1].to_owned()),
            ("S3_BUCKET_COLD", BUCKETS[2].to_owned()),
            ("S3_ACCESS_KEY", told("ACCESS_KEY")),
            ("S3_SECRET_KEY", told("SECRET_KEY")),
            ("PENSTOCK_S3__PREFIX", self.prefix.clone()),
            // Small parts, so that a content soon has several; no more than these can make.
            ("PENSTOCK_S3__PART_SIZE", "5MiB".to_owned()),
            ("PENSTOCK_UPLOADS__MAX_BYTES", "1GiB".to_owned()),
        ]
    }

    /// What is in a folder of the prefix in a bucket, without the prefix.
    pub(crate) async fn keys(&self, bucket: &str, folder: &str) -> Vec<String> {
        let prefix = Path::from(format!("{}/{folder}", self.prefix));
        let found: Vec<_> = behind(bucket).list(Some(&prefix)).try_collect().await.expect("listed");
        let below = |key: Path| key.as_ref().trim_start_matches(&*self.prefix).trim_start_matches('/').to_owned();
        found.into_iter().map(|object| below(object.location)).collect()
    }

    /// The tiers that have a content, or what is left of it there.
    pub(crate) async fn tiers_with(&self, hash: &str) -> Vec<&'static str> {
        let mut with = Vec::new();
        for (bucket, tier) in BUCKETS.into_iter().zip(["hot", "warm", "cold"]) {
            let (seen, left) = (self.keys(bucket, "blobs").await, self.keys(bucket, "retired").await);
            if seen.iter().chain(&left).any(|key| key.ends_with(hash)) {
                with.push(tier);
            }
        }
        with
    }

    /// What is in this folder, in all buckets.
    pub(crate) async fn all_keys(&self, folder: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for bucket in BUCKETS {
            keys.extend(self.keys(bucket, folder).await);
        }
        keys
    }

    /// The keys of uploads in parts that the server holds.
    pub(crate) async fn unfinished(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for bucket in BUCKETS {
            let query = SignedUrlOptions::new().with_query([("uploads", ""), ("max-uploads", "1000")]);
            let (s3, minute) = (behind(bucket), Duration::from_secs(60));
            let url = s3.signed_url_opts(Method::GET, &Path::from(""), minute, &query).await.expect("signed");
            let answer = http().get(url).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let text = answer.text().await.expect("text");
            assert!(!text.contains("<IsTruncated>true"), "more than this test expects");
            let uploads = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            keys.extend(uploads.map(|(key, _)| key.to_owned()).filter(|key| key.contains(&self.prefix)));
        }
        keys
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }

    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        let answer = behind(bucket).get(&self.path(key)).await.expect("an object");
        answer.bytes().await.expect("bytes").to_vec()
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) {
        behind(bucket).put(&self.path(key), bytes.into()).await.expect("written");
    }

    /// Copies what a backup has, and in its order: manifests before the bytes that they name, and the mark.
    pub(crate) async fn copy_to(&self, other: &Self) {
        for bucket in BUCKETS {
            for folder in ["blobs", "data"] {
                for key in self.keys(bucket, folder).await {
                    other.put(bucket, &key, self.get(bucket, &key).await).await;
                }
            }
            other.put(bucket, "penstock-store", self.get(bucket, "penstock-store").await).await;
        }
    }

    pub(crate) async fn remove(&self, bucket: &str, key: &str) {
        behind(bucket).delete(&self.path(key)).await.expect("removed");
    }
}

/// The server, without any proxy.
fn behind(bucket: &str) -> AmazonS3 {
    provide();
    AmazonS3Builder::new()
        .with_endpoint(told("ENDPOINT"))
        .with_region("us-east-1")
        .with_bucket_name(bucket)
        .with_access_key_id(told("ACCESS_KEY"))
        .with_secret_access_key(told("SECRET_KEY"))
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .expect("a client")
}

pub(crate) fn http() -> reqwest::Client {
    provide();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

fn provide() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a test with each client that is built in: `on_each_client!(name, async |buckets| { .. })`, where `buckets` are
/// [`TestBuckets`].
#[macro_export]
macro_rules! on_each_client {
    ($name:ident, $test:expr) => {
        mod $name {
            use super::*;

            async fn with(client: penstock::config::S3Client) {
                let test: fn($crate::s3::TestBuckets) -> futures::future::LocalBoxFuture<'static, ()> =
                    |buckets| Box::pin(async move { ($test)(buckets).await });
                test($crate::s3::TestBuckets::new(client)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn object_store() {
                with(penstock::config::S3Client::ObjectStore).await;
            }

            #[cfg(feature = "rusoto")]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rusoto() {
                with(penstock::config::S3Client::Rusoto).await;
            }
        }
    };
}
