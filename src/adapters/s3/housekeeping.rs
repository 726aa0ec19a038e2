//! Listing, and sweeping up after uploads, purges and crashes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt as _, future::try_join_all, stream};
use jiff::Timestamp;
use penstock_actors::{
    ids::ContentHash,
    ports::{ListedBlob, PortError, PortResult, StoreTime, Sweep},
};

use super::{
    bucket::Bucket,
    client::{Attempt, Expected, Listed},
    error::{S3Failure, S3FailureKind, STORE},
    keys,
    marker::{self, Marker},
    store::{StoreContext, found},
};

/// Keys in one answer: the most that S3 returns at a time.
const PAGE: usize = 1000;

/// An upload that the storage has refused to remove is tried again after this many times the age of the first attempt:
/// once a day by default.
const REFUSED_AGAIN: u32 = 24;

/// Markers that are examined concurrently.
const AT_A_TIME: usize = 8;

impl StoreContext {
    /// Lists contents in the order of their names, over all tiers.
    pub(super) async fn list(
        &self,
        after: Option<ContentHash>,
        min_age: Duration,
        limit: usize,
    ) -> PortResult<Vec<ListedBlob>> {
        let prefix = self.keys.blobs();
        let after = after.map(|hash| self.keys.blob(hash)).unwrap_or_default();
        let pages = self.tiers.iter().map(|bucket| aged(bucket, &prefix, &after, min_age, limit));
        let pages = try_join_all(pages).await?;
        Ok(ListedBlob::merged(pages.iter().flatten().filter_map(listed).collect(), limit))
    }

    /// The time by which the storage of each tier dates an object that is written now.
    pub(super) async fn clocks(&self) -> PortResult<Vec<StoreTime>> {
        try_join_all(self.tiers.iter().map(|bucket| self.clock_of(bucket))).await
    }

    async fn clock_of(&self, bucket: &Bucket) -> PortResult<StoreTime> {
        let key = self.keys.probe();
        bucket.put(&key, &"penstock".into(), Expected::Anything).await?;
        // Sweeps read the same property of the objects that they judge.
        let probe = bucket.list(&key, "", 1).await?.into_iter().find(|listed| listed.key == key);
        let now = probe.and_then(|probe| Timestamp::try_from(probe.modified).ok());
        let now = now.ok_or_else(|| PortError::unavailable(STORE, "the object that was just written is not listed"))?;
        Ok(StoreTime { tier: bucket.tier, now })
    }

    /// Examines old markers, and removes unreferenced data.
    pub(super) async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
        let (mut swept, mut failed) = (Sweep::default(), None);
        for bucket in &self.tiers {
            let left = usize::try_from(limit as u64 - swept.files).unwrap_or(usize::MAX);
            let markers = aged(bucket, &self.keys.markers(), "", min_age, left).await?;
            let looks: Vec<_> = markers.iter().map(|listed| self.sweep_marker(bucket, &listed.key, dry_run)).collect();
            let mut looks = stream::iter(looks).buffer_unordered(AT_A_TIME);
            while let Some(look) = looks.next().await {
                match look {
                    Ok(Some(bytes)) => {
                        swept.files += 1;
                        swept.bytes += bytes;
                    }
                    Ok(None) => {}
                    // The other markers are examined all the same.
                    Err(error) => failed = Some(error),
                }
            }
        }
        swept.refused = self.look_at_refused(min_age, limit, dry_run).await?;
        failed.map_or(Ok(swept), Err)
    }

    /// Returns the bytes that were removed with a marker. `None` when nothing can be done about it.
    async fn sweep_marker(&self, bucket: &Bucket, key: &str, dry_run: bool) -> PortResult<Option<u64>> {
        let Some(whole) = found(bucket.fetch(key, marker::LARGEST).await)? else { return Ok(None) };
        let Some(Marker { data, upload, content, size_bytes }) = Marker::decode(&whole.bytes) else {
            tracing::warn!(key, "an object under uploads/ is not a marker; the sweep leaves it alone");
            return Ok(None);
        };
        let data = self.keys.own_data(&data);
        let is_named = match content {
            Some(hash) => self.is_named(bucket, hash, &data).await,
            None => Ok(false),
        };
        let is_named = match is_named {
            // A damaged manifest does not tell which data it names. Once the content is uploaded again, that is known.
            Err(PortError::Corrupt(_)) => return Ok(None),
            is_named => is_named?,
        };
        if !dry_run {
            if !is_named {
                let aborted = match &upload {
                    Some(upload) => bucket.abort(&data, upload).await,
                    None => Ok(()),
                };
                bucket.delete(&data).await?;
                if let Err(failure) = found(aborted) {
                    self.set_aside(bucket, key, &data, &whole.bytes, failure).await?;
                    return Ok(None);
                }
            }
            bucket.delete(key).await?;
        }
        Ok(Some(if is_named { 0 } else { size_bytes }))
    }

    /// Moves the marker of an upload that the storage refuses to remove. In its new place it does not delay sweeps, and
    /// is tried again rarely.
    async fn set_aside(
        &self,
        bucket: &Bucket,
        key: &str,
        data: &str,
        marker: &Bytes,
        failure: S3Failure,
    ) -> PortResult<()> {
        if failure.is_passing() || failure.kind == S3FailureKind::NoBucket {
            return Err(failure.into());
        }
        tracing::warn!(
            tier = %bucket.tier, data, %failure,
            "the storage refuses to remove an unfinished upload (AbortMultipartUpload): its parts stay, and the node tries again after 24 times janitor.temporary_age"
        );
        bucket.put(&self.keys.refused(data), marker, Expected::Anything).await?;
        Ok(bucket.delete(key).await?)
    }

    /// Tries again to remove uploads that the storage has refused to remove, long after the last attempt; returns how
    /// many are left.
    async fn look_at_refused(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<u64> {
        let (mut left, again) = (0, min_age.max(self.unfinished_age * REFUSED_AGAIN));
        for bucket in &self.tiers {
            let all = aged(bucket, &self.keys.all_refused(), "", Duration::ZERO, limit).await?;
            left += all.len() as u64;
            for listed in all {
                if dry_run {
                    tracing::warn!(tier = %bucket.tier, key = listed.key, "the storage has refused to remove an unfinished upload; its parts stay");
                    continue;
                }
                let age = SystemTime::now().duration_since(listed.modified).unwrap_or_default();
                if age >= again && self.retry_refused(bucket, &listed.key).await? {
                    left -= 1;
                }
            }
        }
        Ok(left)
    }

    /// Tries once more to remove a refused upload; returns whether it is gone.
    async fn retry_refused(&self, bucket: &Bucket, key: &str) -> PortResult<bool> {
        let Some(whole) = found(bucket.fetch(key, marker::LARGEST).await)? else { return Ok(true) };
        if let Some(Marker { data, upload: Some(upload), .. }) = Marker::decode(&whole.bytes)
            && let data = self.keys.own_data(&data)
            && let Err(failure) = found(bucket.abort(&data, &upload).await)
        {
            tracing::debug!(tier = %bucket.tier, data, %failure, "the storage still refuses to remove an unfinished upload");
            // Written again, so that its age is that of the last attempt.
            bucket.put(key, &whole.bytes, Expected::Anything).await?;
            return Ok(false);
        }
        bucket.delete(key).await?;
        Ok(true)
    }

    /// Restores manifests that were retired at least `min_age` ago and neither restored nor discarded since: the
    /// process that retired them is gone, and it was never decided whether the content is still wanted.
    pub(super) async fn undo_forgotten_retirements(&self, min_age: Duration, limit: usize) -> PortResult<()> {
        for bucket in &self.tiers {
            for listed in aged(bucket, &self.keys.all_retired(), "", min_age, limit).await? {
                let Some(hash) = keys::content(&listed.key) else { continue };
                if self.restore_in(bucket, hash).await? {
                    tracing::warn!(content_hash = %hash, "a blob was retired and then neither restored nor discarded; it is restored");
                }
            }
        }
        Ok(())
    }
}

/// A content from its manifest, with the time when that was written.
pub(super) fn listed(object: &Listed) -> Option<ListedBlob> {
    Some(ListedBlob { hash: keys::content(&object.key)?, since: Timestamp::try_from(object.modified).ok()? })
}

/// Up to `limit` objects that were written at least `min_age` ago, by the storage's clock; a time in the future counts
/// as now.
pub(super) async fn aged(
    bucket: &Bucket,
    prefix: &str,
    after: &str,
    min_age: Duration,
    limit: usize,
) -> Attempt<Vec<Listed>> {
    let now = SystemTime::now();
    let is_old = |listed: &Listed| now.duration_since(listed.modified).unwrap_or_default() >= min_age;
    let (mut all, mut after) = (Vec::new(), after.to_owned());
    while all.len() < limit {
        let page = bucket.list(prefix, &after, PAGE.min(limit)).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.key);
        all.extend(page.into_iter().filter(is_old));
    }
    all.truncate(limit);
    Ok(all)
}
