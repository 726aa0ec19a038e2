//! The buckets as one store: look-ups over all tiers, and the steps that hide a manifest and restore it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, future::try_join_all, stream::FuturesOrdered};
use moka::future::Cache;
use penstock_actors::{
    ids::ContentHash,
    model::StorageTier,
    ports::{Missing, PortError, PortResult},
};
use tokio::runtime::Handle;

use super::{
    S3Settings,
    bucket::{Bucket, carry_time},
    client::{Attempt, Expected},
    error::{S3FailureKind, STORE},
    keys::Keys,
    manifest::{self, Manifest},
    marker::Marker,
};
use crate::config::SENDING_ATTEMPTS;

/// Memory for manifests: they never change, and a cached one saves a stream one of two round trips before the first
/// byte. The manifest of a content of 100 MiB takes 3.3 KiB, so this holds about five thousand of them.
const MANIFEST_CACHE_BYTES: u64 = 16 << 20;

/// Memory of a cached manifest beside its leaves.
const MANIFEST_OVERHEAD: usize = 300;

/// State that all parts of the store share.
pub(super) struct StoreContext {
    /// The hottest first; there is at least the hot tier, which takes new content.
    pub(super) tiers: Vec<Arc<Bucket>>,
    pub(super) hot: Arc<Bucket>,
    pub(super) keys: Keys,
    /// The location of each tier, for people to read.
    pub(super) places: Vec<(StorageTier, String)>,
    /// Connections and clean-up run here, whichever runtime calls.
    pub(super) io: Handle,
    pub(super) part_bytes: usize,
    pub(super) parts_in_flight: usize,
    /// The age at which a sweep takes unfinished uploads.
    pub(super) unfinished_age: Duration,
    manifests: Cache<ContentHash, Arc<Placed>>,
}

/// A manifest and the bucket where it was found; its data is in the same bucket.
pub(super) struct Placed {
    pub(super) bucket: Arc<Bucket>,
    pub(super) manifest: Manifest,
}

impl StoreContext {
    pub(super) fn new(hot: Arc<Bucket>, colder: Vec<Arc<Bucket>>, settings: &S3Settings, io: Handle) -> Self {
        let manifests = Cache::builder()
            .max_capacity(MANIFEST_CACHE_BYTES)
            .weigher(|_, placed: &Arc<Placed>| {
                let bytes = size_of_val(&*placed.manifest.leaves) + MANIFEST_OVERHEAD;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        let place =
            |(tier, name): (StorageTier, &String)| (tier, format!("s3://{name}/{}", settings.prefix.trim_matches('/')));
        let names =
            [(StorageTier::Warm, settings.bucket_warm.as_ref()), (StorageTier::Cold, settings.bucket_cold.as_ref())];
        let colder_names = names.into_iter().filter_map(|(tier, name)| Some((tier, name?)));
        Self {
            places: std::iter::once((StorageTier::Hot, &settings.bucket_hot)).chain(colder_names).map(place).collect(),
            tiers: std::iter::once(Arc::clone(&hot)).chain(colder).collect(),
            hot,
            keys: Keys::below(&settings.prefix),
            io,
            part_bytes: settings.part_bytes,
            parts_in_flight: settings.parts_in_flight,
            unfinished_age: settings.unfinished_age,
            manifests,
        }
    }

    /// The longest time for an attempt to send data: as long as it takes on the slowest connection, but short enough
    /// that all attempts end before a sweep considers the upload abandoned.
    pub(super) fn slowest_sending(&self, bytes: usize) -> Duration {
        carry_time(bytes).min(self.unfinished_age / (SENDING_ATTEMPTS * 4))
    }

    /// The bucket of a tier.
    pub(super) fn bucket(&self, tier: StorageTier) -> PortResult<&Arc<Bucket>> {
        let bucket = self.tiers.iter().find(|bucket| bucket.tier == tier);
        bucket.ok_or_else(|| PortError::rejected(STORE, format!("there is no {tier} tier")))
    }

    /// The manifest of a content, from memory or from the hottest tier that has it. Concurrent callers share the
    /// answer.
    pub(super) async fn open(&self, hash: ContentHash) -> PortResult<Arc<Placed>> {
        let look_up = async { self.look_up(hash).await?.map(Arc::new).ok_or(PortError::NotFound(Missing::Blob)) };
        self.manifests.try_get_with(hash, look_up).await.map_err(|shared| PortError::shared(&shared))
    }

    /// The present manifest, read again.
    pub(super) async fn open_afresh(&self, hash: ContentHash) -> PortResult<Arc<Placed>> {
        self.forget(hash).await;
        self.open(hash).await
    }

    pub(super) async fn forget(&self, hash: ContentHash) {
        self.manifests.invalidate(&hash).await;
    }

    pub(super) async fn remember(&self, hash: ContentHash, placed: Placed) {
        self.manifests.insert(hash, Arc::new(placed)).await;
    }

    /// Asks all tiers concurrently, and takes the hottest whose manifest is usable, without waiting for the colder
    /// ones.
    async fn look_up(&self, hash: ContentHash) -> PortResult<Option<Placed>> {
        let mut answers: FuturesOrdered<_> = self.tiers.iter().map(|bucket| self.manifest_in(bucket, hash)).collect();
        let mut failed = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Some(placed)) => return Ok(Some(placed)),
                Ok(None) => {}
                // A colder tier may have it; if none has, it is unknown whether the content exists.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    pub(super) async fn manifest_in(&self, bucket: &Arc<Bucket>, hash: ContentHash) -> PortResult<Option<Placed>> {
        let Some(whole) = found(bucket.fetch(&self.keys.blob(hash), manifest::LARGEST).await)? else { return Ok(None) };
        let manifest = self.manifest(&whole.bytes, hash)?;
        Ok(Some(Placed { bucket: Arc::clone(bucket), manifest }))
    }

    /// Whether a content is visible, and its data exists with the expected size. To an upload of the same content,
    /// damaged content counts as missing.
    pub(super) async fn is_intact(&self, hash: ContentHash) -> PortResult<bool> {
        match self.look_up(hash).await {
            Ok(Some(placed)) => has_data(&placed.bucket, &placed.manifest).await,
            Ok(None) | Err(PortError::Corrupt(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        let key = self.keys.blob(hash);
        let sizes = try_join_all(self.tiers.iter().map(|bucket| size_of(bucket, &key))).await?;
        Ok(sizes.iter().any(Option::is_some))
    }

    pub(super) async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        let retired = try_join_all(self.tiers.iter().map(|bucket| self.retire_in(bucket, hash))).await;
        self.forget(hash).await;
        Ok(retired?.contains(&true))
    }

    /// Writes the manifest to its hidden place, and then removes the visible one. In between it is in both places,
    /// which counts as visible.
    pub(super) async fn retire_in(&self, bucket: &Bucket, hash: ContentHash) -> Attempt<bool> {
        let (blob, retired) = (self.keys.blob(hash), self.keys.retired(hash));
        let Some(whole) = found(bucket.fetch(&blob, manifest::LARGEST).await)? else { return Ok(false) };
        bucket.put(&retired, &whole.bytes, Expected::Anything).await?;
        bucket.delete(&blob).await?;
        Ok(true)
    }

    /// Restores manifests. A manifest that has become visible since stays: it is of the same content, and newer.
    pub(super) async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        let restored = try_join_all(self.tiers.iter().map(|bucket| self.restore_in(bucket, hash))).await?;
        if restored.contains(&true) || self.exists(hash).await? {
            Ok(())
        } else {
            Err(PortError::NotFound(Missing::Blob))
        }
    }

    pub(super) async fn restore_in(&self, bucket: &Arc<Bucket>, hash: ContentHash) -> PortResult<bool> {
        let (blob, retired) = (self.keys.blob(hash), self.keys.retired(hash));
        let Some(whole) = found(bucket.fetch(&retired, manifest::LARGEST).await)? else { return Ok(false) };
        // Checked first, because not every storage supports conditional writes.
        let other = match self.manifest_in(bucket, hash).await {
            Ok(other) => other,
            Err(PortError::Corrupt(_)) => None,
            Err(error) => return Err(error),
        };
        let came_since = other.is_some() || !written(bucket.put(&blob, &whole.bytes, Expected::Absent).await)?;
        if came_since {
            // The sweep checks whether the data belongs to another manifest by now.
            self.leave_to_sweep(bucket, &whole.bytes, hash).await?;
        }
        bucket.delete(&retired).await?;
        Ok(true)
    }

    /// Removes a retired manifest. Its data stays until a sweep that runs after all possible readers have ended.
    pub(super) async fn purge_in(&self, bucket: &Bucket, hash: ContentHash) -> PortResult<()> {
        self.forget_manifest(bucket, &self.keys.retired(hash), hash).await.map(drop)
    }

    /// Removes a hidden manifest, and leaves its data to a sweep; returns the bytes of the data.
    pub(super) async fn forget_manifest(&self, bucket: &Bucket, key: &str, hash: ContentHash) -> PortResult<u64> {
        let Some(whole) = found(bucket.fetch(key, manifest::LARGEST).await)? else { return Ok(0) };
        self.leave_to_sweep(bucket, &whole.bytes, hash).await?;
        bucket.delete(key).await?;
        Ok(Manifest::decode(&whole.bytes, hash).map_or(0, |manifest| manifest.size_bytes))
    }

    /// Writes a marker for the data that a manifest names, so that a sweep checks it.
    pub(super) async fn leave_to_sweep(&self, bucket: &Bucket, manifest: &Bytes, hash: ContentHash) -> PortResult<()> {
        let Ok(Manifest { data, size_bytes, .. }) = self.manifest(manifest, hash) else {
            // A damaged manifest does not tell which data it named.
            tracing::warn!(content_hash = %hash, "a damaged manifest is removed; its data, if there is any, cannot be found and stays in the bucket");
            return Ok(());
        };
        let key = self.keys.marker(&data);
        let marker = Marker { data, upload: None, content: Some(hash), size_bytes };
        Ok(bucket.put(&key, &marker.encode(), Expected::Anything).await?)
    }

    /// Whether a manifest of this content, visible, retired or in the trash, names this data. A damaged one counts,
    /// because it may.
    pub(super) async fn is_named(&self, bucket: &Bucket, hash: ContentHash, data: &str) -> PortResult<bool> {
        let keys = [self.keys.blob(hash), self.keys.retired(hash), self.keys.trashed(hash)];
        let named = try_join_all(keys.iter().map(|key| self.names(bucket, key, hash, data))).await?;
        Ok(named.contains(&true))
    }

    /// Whether the manifest under this key, if it exists, names this data.
    async fn names(&self, bucket: &Bucket, key: &str, hash: ContentHash, data: &str) -> PortResult<bool> {
        let Some(whole) = found(bucket.fetch(key, manifest::LARGEST).await)? else { return Ok(false) };
        Ok(self.manifest(&whole.bytes, hash)?.data == data)
    }

    /// Reads a manifest. The data that it names is below the prefix of this store, wherever the manifest was written: a copy
    /// of a store under another prefix neither reads nor removes the data of the original.
    pub(super) fn manifest(&self, text: &[u8], hash: ContentHash) -> PortResult<Manifest> {
        let manifest = Manifest::decode(text, hash)?;
        Ok(Manifest { data: self.keys.own_data(&manifest.data), ..manifest })
    }
}

/// The size of an object, if it exists.
pub(super) async fn size_of(bucket: &Bucket, key: &str) -> Attempt<Option<u64>> {
    found(bucket.head(key).await)
}

/// Whether the data of a manifest exists with its size.
pub(super) async fn has_data(bucket: &Bucket, manifest: &Manifest) -> PortResult<bool> {
    Ok(size_of(bucket, &manifest.data).await? == Some(manifest.size_bytes))
}

/// Whether a conditional write took effect.
pub(super) fn written(answer: Attempt<()>) -> Attempt<bool> {
    match answer {
        Err(failure) if failure.kind == S3FailureKind::Precondition => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// `None` for a missing object.
pub(super) fn found<T>(answer: Attempt<T>) -> Attempt<Option<T>> {
    match answer {
        Err(failure) if failure.kind == S3FailureKind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}
