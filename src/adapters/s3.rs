//! Blobs in S3 or compatible storage: one bucket per tier, shared by any number of instances.
//!
//! The bytes of a content are an object under a random key, because the content's hash is known only after the last
//! byte, and S3 cannot rename. A small **manifest** per content, named by its hash, says where they are; it is written
//! last, and its existence makes the content visible. So no reader sees partial content, retiring a content moves only
//! its manifest, and a purge leaves the bytes to a later sweep, so that open readers can continue. Data that possibly
//! has no manifest has a **marker**: the sweep finds what a crash left without listing all data. See [`keys`] for the
//! layout and [`pending`] for the order of a commit.
//!
//! Requirements: a read or a list that begins after a write has ended sees the write (S3 guarantees that since December
//! 2020), and a PUT with `If-None-Match` or `If-Match` is refused when the object is not as expected. If the storage
//! refuses these headers, the first write detects that; if it ignores them, nothing does. In both cases, two uploads of
//! one content that end at the same moment may leave an unreferenced copy of it. Readers never get wrong bytes because
//! of it.
//!
//! Two clients implement access to S3, `object_store` and, with the cargo feature `rusoto`, `rusoto_s3`; everything
//! else is the same for both. Requests run on the given runtime and end with their callers. [`bucket`] has the bounds
//! in time. In memory, an upload holds `parts_in_flight + 1` parts, a read the requested range, and manifests a fixed
//! cache.

mod bucket;
mod client;
mod copies;
mod error;
mod housekeeping;
mod keys;
pub(crate) mod manifest;
mod marker;
mod marks;
mod outage;
mod parts;
mod pending;
mod sink;
mod source;
mod store;
mod trash;
mod urls;
mod via_object_store;
#[cfg(feature = "rusoto")]
mod via_rusoto;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::try_join_all;
use penstock_actors::{
    ids::ContentHash,
    model::StorageTier,
    ports::{BlobSink, BlobStore, PortError, PortResult, StoredBlob},
    task_span::InTaskSpan as _,
};
use tokio::{runtime::Handle, task::JoinSet};

pub use bucket::Patience;
pub use urls::S3Urls;

use crate::{config::S3Client, telemetry::S3Metrics};
use bucket::Bucket;
use client::{BucketClient, Expected};
use error::{S3Failure, S3FailureKind, STORE};
use pending::UploadTarget;
use sink::S3Sink;
use source::S3Source;
use store::StoreContext;

/// A key with its secret.
#[derive(Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
}

/// Does not print the secret.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How to reach S3.
#[derive(Debug, Clone)]
pub struct Connection {
    pub client: S3Client,
    /// A URL; `None`: Amazon's endpoint of the region.
    pub endpoint: Option<String>,
    /// The URL under which clients reach the storage, if it differs.
    pub public_endpoint: Option<String>,
    pub region: String,
    /// `None`: `AWS_ACCESS_KEY_ID` from the environment, a web identity, the container's or the instance's role, in
    /// this order.
    pub access_key: Option<AccessKey>,
    pub connect_timeout: Duration,
}

/// The buckets, and the bounds of the store.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub connection: Connection,
    pub bucket_hot: String,
    pub bucket_warm: Option<String>,
    pub bucket_cold: Option<String>,
    /// The prefix of all keys.
    pub prefix: String,
    pub part_bytes: usize,
    /// Parts of one upload that are sent concurrently.
    pub parts_in_flight: usize,
    pub patience: Patience,
    /// The age at which sweeps take unfinished uploads. More than twice the time that sending a manifest may take.
    pub unfinished_age: Duration,
}

/// The blob store in S3.
#[derive(Clone)]
pub struct S3Blobs {
    store: Arc<StoreContext>,
}

impl S3Blobs {
    /// Connects to the buckets, and checks that they can be read and written. If they do not answer, the store is
    /// returned all the same: an instance that starts while S3 is down serves what it can, and everything once S3 is
    /// back.
    ///
    /// # Errors
    /// Errors that only an operator can fix: a bucket that does not exist, refused credentials, a client that is not
    /// built in.
    pub async fn open(settings: &S3Settings, metrics: Arc<S3Metrics>, io: Handle) -> PortResult<Self> {
        let bucket = |tier, name: &str| {
            let client = client(&settings.connection, name)?;
            Ok::<_, PortError>(Arc::new(Bucket::new(tier, client, settings.patience, Arc::clone(&metrics))))
        };
        let hot = bucket(StorageTier::Hot, &settings.bucket_hot)?;
        let mut colder = Vec::new();
        for (tier, name) in [(StorageTier::Warm, &settings.bucket_warm), (StorageTier::Cold, &settings.bucket_cold)] {
            if let Some(name) = name {
                colder.push(bucket(tier, name)?);
            }
        }
        let blobs = Self { store: Arc::new(StoreContext::new(hot, colder, settings, io)) };
        match blobs.on_io(async |store| Ok(store.probe().await)).await? {
            Err(failure) if failure.is_passing() => {
                tracing::warn!(%failure, "S3 does not answer yet; the node starts without it and tries again with each request");
            }
            probed => probed?,
        }
        Ok(blobs)
    }

    async fn on_io<T, F>(&self, work: impl FnOnce(Arc<StoreContext>) -> F) -> PortResult<T>
    where
        T: Send + 'static,
        F: Future<Output = PortResult<T>> + Send + 'static,
    {
        on_io(&self.store.io, work(Arc::clone(&self.store))).await
    }
}

/// Runs work on the I/O runtime, which owns the connections, so that they outlive the thread of the first caller. The
/// work ends with its caller.
async fn on_io<T: Send + 'static>(
    io: &Handle,
    work: impl Future<Output = PortResult<T>> + Send + 'static,
) -> PortResult<T> {
    let mut task = JoinSet::new();
    task.spawn_on(work.in_task_span(), io);
    match task.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(stopped)) => Err(PortError::unavailable(STORE, stopped)),
        None => Err(PortError::unavailable(STORE, "the task was cancelled")),
    }
}

/// One bucket, accessed by the chosen client.
fn client(connection: &Connection, bucket: &str) -> PortResult<Arc<dyn BucketClient>> {
    match connection.client {
        S3Client::ObjectStore => Ok(Arc::new(via_object_store::ObjectStoreBucket::new(connection, bucket)?)),
        #[cfg(feature = "rusoto")]
        S3Client::Rusoto => Ok(Arc::new(via_rusoto::RusotoBucket::new(connection, bucket)?)),
        #[cfg(not(feature = "rusoto"))]
        S3Client::Rusoto => Err(PortError::rejected(STORE, "this binary was built without the feature `rusoto`")),
    }
}

impl StoreContext {
    /// Checks once whether every bucket answers. The requested object exists unless the bucket is new.
    async fn probe(&self) -> Result<(), S3Failure> {
        let key = self.keys.probe();
        try_join_all(self.tiers.iter().map(|bucket| probe(bucket, &key))).await.map(drop)
    }
}

async fn probe(bucket: &Bucket, key: &str) -> Result<(), S3Failure> {
    let answer = match bucket.probe(key).await {
        Err(failure) if failure.kind == S3FailureKind::NotFound => {
            bucket.put(key, &"penstock".into(), Expected::Anything).await
        }
        answer => answer,
    };
    answer.map_err(|failure| failure.of(bucket.tier))
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        Ok(Box::new(S3Sink::new(Arc::clone(&self.store), UploadTarget::of_new(&self.store))))
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        self.on_io(async move |store| {
            let placed = store.open(hash).await?;
            Ok(StoredBlob {
                tier: placed.bucket.tier,
                size_bytes: placed.manifest.size_bytes,
                leaves: Arc::clone(&placed.manifest.leaves),
                source: Arc::new(S3Source::new(store, hash, placed)),
            })
        })
        .await
    }

    async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        self.on_io(async move |store| store.exists(hash).await).await
    }

    async fn forget(&self, hash: ContentHash) {
        self.store.forget(hash).await;
    }

    async fn ping(&self) -> PortResult<()> {
        self.on_io(async move |store| Ok(store.probe().await?)).await
    }
}
