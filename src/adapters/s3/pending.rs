//! Data that is about to become a content.
//!
//! The order of a commit. Whatever is killed, the data has a manifest or a marker:
//! 1. the marker is updated with the content that the data is to become;
//! 2. the data is written, as one object or by completing its parts;
//! 3. the manifest is written, only if there is none yet: this one write makes the content visible;
//! 4. the marker is removed.
//!
//! After a failure before step 3, the data is removed at once. A failure at step 3 does not tell whether the manifest
//! was written, so the sweep, which checks that, does the rest. If the content exists already and is intact at step 3,
//! the new data is dropped; a manifest that is damaged, or whose data is missing, is replaced if it is still in the
//! state in which it was found.

use std::{mem, sync::Arc};

use bytes::Bytes;
use futures::future::try_join;
use penstock_actors::{
    ids::ContentHash,
    model::{LeafHash, StorageTier},
    ports::{PortError, PortResult},
    task_span::InTaskSpan as _,
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    bucket::{Bucket, UploadPart},
    client::{Attempt, Expected},
    error::{S3Failure, S3FailureKind, STORE},
    manifest::{self, Manifest},
    marker::Marker,
    store::{Placed, StoreContext, found, has_data, size_of, written},
};
use crate::config::MOST_PARTS;

/// How often another writer may change the manifest while it is being written.
const PUBLISH_ATTEMPTS: usize = 5;

/// The destination of data.
#[derive(Clone)]
pub(super) struct UploadTarget {
    pub(super) bucket: Arc<Bucket>,
    /// Whether it replaces data that looks intact.
    pub(super) replaces: bool,
}

impl UploadTarget {
    /// For new content.
    pub(super) fn of_new(store: &StoreContext) -> Self {
        Self { bucket: Arc::clone(&store.hot), replaces: false }
    }

    /// For a copy in one tier.
    pub(super) fn of_copy(store: &StoreContext, tier: StorageTier) -> PortResult<Self> {
        Ok(Self { bucket: Arc::clone(store.bucket(tier)?), replaces: true })
    }
}

/// Data without a manifest yet. Dropping this removes the data in the background.
pub(super) struct Pending {
    store: Arc<StoreContext>,
    place: UploadTarget,
    marker: Marker,
    marked: Instant,
    /// Parts under way, by number from 1, with their tags.
    parts: JoinSet<(usize, Attempt<String>)>,
    tags: Vec<Option<String>>,
    fate: DropAction,
}

/// What happens to the data when this is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DropAction {
    /// Nothing was sent yet.
    Untouched,
    Remove,
    /// It may still be on its way to the storage: it is removed, and the marker stays, so that the sweep checks again.
    RemoveAndMark,
    /// It has a manifest, or may have one: it is kept.
    Keep,
}

impl Pending {
    pub(super) fn new(store: Arc<StoreContext>, place: UploadTarget) -> Self {
        let marker = Marker { data: store.keys.new_data(), upload: None, content: None, size_bytes: 0 };
        Self {
            store,
            place,
            marker,
            marked: Instant::now(),
            parts: JoinSet::new(),
            tags: Vec::new(),
            fate: DropAction::Untouched,
        }
    }

    /// Begins to send the data in parts.
    pub(super) async fn in_parts(store: Arc<StoreContext>, place: UploadTarget) -> PortResult<Self> {
        let mut pending = Self::new(store, place);
        // If writing the marker fails, the upload has no parts and takes no space.
        pending.marker.upload = Some(pending.place.bucket.begin(&pending.marker.data).await?);
        pending.mark().await?;
        Ok(pending)
    }

    /// Makes the data replace data that looks intact.
    pub(super) fn replace(&mut self) {
        self.place.replaces = true;
    }

    async fn mark(&mut self) -> PortResult<()> {
        self.fate = DropAction::Remove;
        self.write_marker().await?;
        self.marked = Instant::now();
        Ok(())
    }

    async fn write_marker(&self) -> PortResult<()> {
        let key = self.store.keys.marker(&self.marker.data);
        Ok(self.place.bucket.put(&key, &self.marker.encode(), Expected::Anything).await?)
    }

    /// Records in the marker which content the data is to become.
    pub(super) async fn mark_as(&mut self, content: ContentHash, size_bytes: u64) -> PortResult<()> {
        self.marker.content = Some(content);
        self.marker.size_bytes = size_bytes;
        self.mark().await
    }

    /// Shows the sweep that the upload is still running.
    pub(super) async fn keep_alive(&mut self, size_bytes: u64) -> PortResult<()> {
        if self.marked.elapsed() < self.store.unfinished_age / 4 {
            return Ok(());
        }
        self.marker.size_bytes = size_bytes;
        self.mark().await
    }

    /// Sends a part as soon as fewer than `parts_in_flight` are under way.
    pub(super) async fn part(&mut self, body: Bytes) -> PortResult<()> {
        if self.tags.len() == MOST_PARTS {
            return Err(PortError::rejected(STORE, format!("more than {MOST_PARTS} parts: s3.part_size is too small")));
        }
        while self.parts.len() >= self.store.parts_in_flight {
            self.part_ended().await?;
        }
        self.tags.push(None);
        let (number, bucket) = (self.tags.len(), Arc::clone(&self.place.bucket));
        let (key, upload) = (self.marker.data.clone(), self.marker.upload.clone().unwrap_or_default());
        let slowest = self.store.slowest_sending(body.len());
        let send = async move {
            let part = UploadPart { key: &key, upload: &upload, number: number as u32 };
            (number, bucket.part(part, &body, slowest).await)
        };
        self.parts.spawn_on(send.in_task_span(), &self.store.io);
        Ok(())
    }

    /// Waits until one part is stored; false when none is under way.
    async fn part_ended(&mut self) -> PortResult<bool> {
        let Some(ended) = self.parts.join_next().await else { return Ok(false) };
        let (number, tag) = ended.map_err(|stopped| PortError::unavailable(STORE, stopped))?;
        self.tags[number - 1] = Some(tag?);
        Ok(true)
    }

    /// Waits for the parts, records the content in the marker, and makes one object of the parts.
    pub(super) async fn complete_as(&mut self, content: ContentHash, size_bytes: u64) -> PortResult<()> {
        while self.part_ended().await? {}
        self.marker.content = Some(content);
        self.marker.size_bytes = size_bytes;
        try_join(self.complete(), self.write_marker()).await?;
        self.marked = Instant::now();
        Ok(())
    }

    async fn complete(&self) -> PortResult<()> {
        let Marker { data, upload, size_bytes, .. } = &self.marker;
        let tags: Vec<String> = self.tags.iter().flatten().cloned().collect();
        match self.place.bucket.complete(data, upload.as_deref().unwrap_or_default(), &tags).await {
            // The answer to an earlier attempt may have been lost: then the upload is gone, but the object exists.
            Err(failure) if failure.kind == S3FailureKind::NotFound => {
                let size = size_of(&self.place.bucket, data).await?;
                if size == Some(*size_bytes) { Ok(()) } else { Err(failure.into()) }
            }
            completed => Ok(completed?),
        }
    }

    /// Sends the data as one object.
    pub(super) async fn whole(&mut self, body: &Bytes) -> PortResult<()> {
        self.fate = DropAction::RemoveAndMark;
        let slowest = self.store.slowest_sending(body.len());
        let sent = self.place.bucket.put_data(&self.marker.data, body, slowest).await;
        if sent.as_ref().err().is_none_or(|failure| !failure.is_passing()) {
            self.fate = DropAction::Remove;
        }
        Ok(sent?)
    }

    /// Makes the content visible, or finds that it is visible already.
    pub(super) async fn publish(mut self, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        self.outrun_the_sweep().await?;
        let data = self.marker.data.clone();
        let manifest = Manifest { data, size_bytes: self.marker.size_bytes, leaves: leaves.into() };
        let (key, body) = (self.store.keys.blob(hash), Bytes::from(manifest.encode(hash)));
        let mut found = ManifestState::Absent;
        for _ in 0..PUBLISH_ATTEMPTS {
            let expected = match &found {
                ManifestState::Absent => Expected::Absent,
                ManifestState::Damaged { tag: Some(tag) } => Expected::Unchanged(tag),
                ManifestState::Damaged { tag: None } => Expected::Anything,
                ManifestState::Own => break,
                ManifestState::Intact => {
                    self.discard().await;
                    return Ok(());
                }
            };
            self.fate = DropAction::Keep;
            if written(self.place.bucket.put(&key, &body, expected).await)? {
                found = ManifestState::Own;
                break;
            }
            found = self.standing(hash).await?;
        }
        if !matches!(found, ManifestState::Own) {
            let why = S3Failure::new(S3FailureKind::Precondition, "other writers keep changing the manifest");
            return Err(why.into());
        }
        self.fate = DropAction::Keep;
        if self.place.replaces {
            // Whether readers should use this copy depends on the copies in other tiers.
            self.store.forget(hash).await;
        } else {
            self.store.remember(hash, Placed { bucket: Arc::clone(&self.place.bucket), manifest }).await;
        }
        self.unmark().await;
        Ok(())
    }

    /// The present state of the manifest.
    async fn standing(&self, hash: ContentHash) -> PortResult<ManifestState> {
        let bucket = &self.place.bucket;
        let whole = found(bucket.fetch(&self.store.keys.blob(hash), manifest::LARGEST).await)?;
        let Some(whole) = whole else { return Ok(ManifestState::Absent) };
        let Ok(manifest) = self.store.manifest(&whole.bytes, hash) else {
            return Ok(ManifestState::Damaged { tag: whole.tag });
        };
        if manifest.data == self.marker.data {
            return Ok(ManifestState::Own);
        }
        if !self.place.replaces && has_data(bucket, &manifest).await? {
            return Ok(ManifestState::Intact);
        }
        self.store.leave_to_sweep(bucket, &whole.bytes, hash).await?;
        Ok(ManifestState::Damaged { tag: whole.tag })
    }

    /// Ensures that no sweep has taken the data, and that none will before the manifest is written. Writing it takes at
    /// most [`sending_time`](super::bucket::Patience::sending_time), which is less than half of the sweep's age.
    async fn outrun_the_sweep(&mut self) -> PortResult<()> {
        if self.marked.elapsed() < self.store.unfinished_age / 2 {
            return Ok(());
        }
        self.mark().await?;
        let size = size_of(&self.place.bucket, &self.marker.data).await?;
        if size == Some(self.marker.size_bytes) {
            return Ok(());
        }
        Err(PortError::unavailable(STORE, "the upload took so long that a sweep has removed it"))
    }

    /// Removes the data now: the content exists without it.
    pub(super) async fn discard(mut self) {
        self.remains().remove().await;
    }

    /// The data has a manifest. If this fails, a sweep removes the marker.
    async fn unmark(&self) {
        let key = self.store.keys.marker(&self.marker.data);
        if let Err(failure) = self.place.bucket.try_delete(&key).await {
            tracing::debug!(%failure, key, "a marker cannot be removed; the next sweep removes it");
        }
    }

    /// Takes what is to be removed out of this, so that this no longer removes it.
    fn remains(&mut self) -> Remains {
        Remains {
            store: Arc::clone(&self.store),
            bucket: Arc::clone(&self.place.bucket),
            marker: self.marker.clone(),
            parts: mem::take(&mut self.parts),
            fate: mem::replace(&mut self.fate, DropAction::Keep),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if matches!(self.fate, DropAction::Remove | DropAction::RemoveAndMark) {
            let remains = self.remains();
            self.store.io.spawn(remains.remove());
        }
    }
}

/// The state of the manifest that is to be written.
enum ManifestState {
    Absent,
    /// It names the data that is being committed.
    Own,
    /// It names other data, which exists.
    Intact,
    /// It is not usable, or its data is missing.
    Damaged {
        tag: Option<String>,
    },
}

/// Data that is to be removed.
struct Remains {
    store: Arc<StoreContext>,
    bucket: Arc<Bucket>,
    marker: Marker,
    parts: JoinSet<(usize, Attempt<String>)>,
    fate: DropAction,
}

impl Remains {
    async fn remove(mut self) {
        // Parts that are still being sent would arrive after the abort.
        self.parts.shutdown().await;
        if let Err(failure) = self.try_remove().await {
            tracing::warn!(%failure, data = self.marker.data, "an unfinished upload cannot be removed; a later sweep removes it");
        }
    }

    async fn try_remove(&self) -> Attempt<()> {
        let (bucket, data) = (&self.bucket, &self.marker.data);
        if let Some(upload) = &self.marker.upload {
            found(bucket.abort(data, upload).await)?;
        }
        // Also for an upload in parts: an attempt whose answer was lost may have completed it.
        bucket.delete(data).await?;
        if self.fate == DropAction::RemoveAndMark {
            return Ok(());
        }
        bucket.delete(&self.store.keys.marker(data)).await
    }
}
