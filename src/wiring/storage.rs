//! The blob store, and the signer of its URLs.

use std::sync::Arc;

use anyhow::Context as _;
use penstock_actors::ports::{StoreMarks, UrlSigner};
use tokio::runtime::Handle;

use super::delivery;
use crate::{
    adapters::{
        files::{FileBlobs, FilesSettings},
        s3::{AccessKey, Connection, Patience, S3Blobs, S3Settings, S3Urls},
    },
    config::{Config, Storage, StorageBackend},
    telemetry::Metrics,
};

/// The blob store, and the URL signer of the configured mode, if the mode has one.
///
/// # Errors
/// Errors that only an operator can fix. Storage that does not answer may come back.
pub async fn open(
    config: &Config,
    metrics: &Metrics,
    io: &Handle,
) -> anyhow::Result<(Arc<dyn StoreMarks>, Option<Arc<dyn UrlSigner>>)> {
    match config.storage.backend {
        StorageBackend::Fs => {
            let root = config.blob_root();
            let warm = Storage::colder(&config.storage.warm_root);
            let cold = Storage::colder(&config.storage.cold_root);
            let blobs = Arc::new(FileBlobs::new(FilesSettings { root, warm, cold }, io.clone()));
            let urls = delivery::url_signer(config, Arc::<FileBlobs>::clone(&blobs), None);
            Ok((blobs, urls))
        }
        StorageBackend::S3 => {
            let settings = s3_settings(config);
            let blobs = S3Blobs::open(&settings, Arc::clone(&metrics.s3), io.clone()).await;
            let blobs = blobs.context("cannot use the buckets of [s3]")?;
            let storage = Arc::new(S3Urls::new(blobs.clone(), delivery::tier(config)));
            let urls = delivery::url_signer(config, Arc::<S3Urls>::clone(&storage), Some(storage));
            Ok((Arc::new(blobs), urls))
        }
    }
}

fn s3_settings(config: &Config) -> S3Settings {
    let s3 = &config.s3;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let access_key = given(s3.access_key.expose());
    S3Settings {
        connection: Connection {
            client: s3.client,
            endpoint: given(&s3.endpoint),
            public_endpoint: given(&s3.public_endpoint),
            region: s3.region.clone(),
            access_key: access_key.map(|id| AccessKey { id, secret: s3.secret_key.expose().to_owned() }),
            connect_timeout: s3.connect_timeout,
        },
        bucket_hot: s3.bucket_hot.clone(),
        bucket_warm: given(&s3.bucket_warm),
        bucket_cold: given(&s3.bucket_cold),
        prefix: s3.prefix.clone(),
        part_bytes: usize::try_from(s3.part_size).unwrap_or(usize::MAX),
        parts_in_flight: s3.parts_in_flight,
        patience: Patience { idle_timeout: s3.idle_timeout, part_timeout: s3.part_timeout, retry_time: s3.retry_time },
        unfinished_age: config.janitor.temporary_age,
    }
}
