//! A blob store in memory, with faults by script and bytes that a test may damage.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::script::Script;
use crate::{
    ids::ContentHash,
    model::{LEAF_BYTES, LeafHash, PartName, StorageTier, leaf_count},
    ports::{
        BlobCopies, BlobSink, BlobSource, BlobStore, BlobTrash, ListedBlob, Missing, PortError, PortResult, StoreTime,
        StoredBlob, StoredCopy, Sweep, UploadParts,
    },
};

struct Blob {
    bytes: Bytes,
    leaves: Arc<[LeafHash]>,
    /// Every read fails, as on a bad disk.
    unreadable: bool,
}

impl Blob {
    fn of(bytes: Bytes, leaves: Arc<[LeafHash]>) -> Arc<Self> {
        Arc::new(Self { bytes, leaves, unreadable: false })
    }
}

/// The copies in colder tiers, and copies of any tier that readers were switched away from.
#[derive(Default)]
struct Colder {
    copies: BTreeMap<(StorageTier, ContentHash), Arc<Blob>>,
    left: BTreeSet<(StorageTier, ContentHash)>,
}

#[derive(Default)]
struct Shelf {
    script: Script,
    /// The hot tier.
    blobs: Mutex<BTreeMap<ContentHash, Arc<Blob>>>,
    colder: Mutex<Colder>,
    retired: Mutex<HashMap<ContentHash, Arc<Blob>>>,
    trash: Mutex<BTreeMap<ContentHash, (Arc<Blob>, Timestamp)>>,
    /// The store's clock.
    now: Mutex<Timestamp>,
    /// The time that the storage's own clock shows, if it has one.
    storage_time: Mutex<Option<Timestamp>>,
    /// Blobs that are being written.
    unfinished: Mutex<usize>,
    parts: Mutex<HashMap<PartName, Bytes>>,
}

/// A blob store in memory.
#[derive(Clone, Default)]
pub struct MemoryBlobs(Arc<Shelf>);

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a content.
pub fn hash_of(content: &[u8]) -> ContentHash {
    ContentHash::from_bytes(Sha256::digest(content).into())
}

fn leaves_of(content: &[u8]) -> Arc<[LeafHash]> {
    content.chunks(LEAF_BYTES as usize).map(|leaf| Sha256::digest(leaf).into()).collect()
}

impl MemoryBlobs {
    /// Its scripted faults.
    pub fn script(&self) -> &Script {
        &self.0.script
    }

    /// Stores a content under its name.
    pub fn put(&self, content: impl Into<Bytes>) -> ContentHash {
        let bytes: Bytes = content.into();
        let (hash, leaves) = (hash_of(&bytes), leaves_of(&bytes));
        held(&self.0.blobs).insert(hash, Blob::of(bytes, leaves));
        hash
    }

    /// Replaces the bytes of a blob, but not its name and its hash list.
    ///
    /// # Panics
    /// When there is no such blob.
    pub fn damage(&self, hash: ContentHash, bytes: impl Into<Bytes>) {
        let mut blobs = held(&self.0.blobs);
        let leaves = Arc::clone(&blobs.get(&hash).expect("a blob to damage").leaves);
        blobs.insert(hash, Blob::of(bytes.into(), leaves));
    }

    /// Replaces the bytes of the copy in one tier, but not its name and its hash list.
    ///
    /// # Panics
    /// When there is no such copy.
    pub fn damage_copy(&self, hash: ContentHash, tier: StorageTier, bytes: impl Into<Bytes>) {
        let leaves = Arc::clone(&self.0.copy(hash, tier).expect("a copy to damage").leaves);
        self.0.put(hash, tier, Blob::of(bytes.into(), leaves));
    }

    /// Removes the hash list of the copy in one tier, but not its bytes.
    ///
    /// # Panics
    /// When there is no such copy.
    pub fn damage_list(&self, hash: ContentHash, tier: StorageTier) {
        let bytes = self.0.copy(hash, tier).expect("a copy to damage").bytes.clone();
        self.0.put(hash, tier, Blob::of(bytes, Arc::default()));
    }

    /// Makes each read of the copy in one tier fail, until it is written anew.
    ///
    /// # Panics
    /// When there is no such copy.
    pub fn refuse_reads(&self, hash: ContentHash, tier: StorageTier) {
        let copy = self.0.copy(hash, tier).expect("a copy to damage");
        let (bytes, leaves) = (copy.bytes.clone(), Arc::clone(&copy.leaves));
        self.0.put(hash, tier, Arc::new(Blob { bytes, leaves, unreadable: true }));
    }

    /// Removes the copy in one tier behind the node's back.
    pub fn lose_copy(&self, hash: ContentHash, tier: StorageTier) {
        self.0.remove(hash, tier);
    }

    /// The tiers that have a copy of a content.
    pub fn tiers_of(&self, hash: ContentHash) -> Vec<StorageTier> {
        StorageTier::ALL.iter().copied().filter(|&tier| self.0.copy(hash, tier).is_some()).collect()
    }

    /// The names of the visible blobs.
    pub fn names(&self) -> Vec<ContentHash> {
        held(&self.0.blobs).keys().copied().collect()
    }

    /// Blobs that are hidden.
    pub fn retired(&self) -> usize {
        held(&self.0.retired).len()
    }

    /// Blobs in the trash.
    pub fn trash(&self) -> Vec<ContentHash> {
        held(&self.0.trash).keys().copied().collect()
    }

    /// Sets the store's clock: from now on blobs count as written, or as moved to the trash, at this time.
    pub fn set_clock(&self, now: Timestamp) {
        *held(&self.0.now) = now;
    }

    /// Makes this a storage with a clock of its own, which shows this time.
    pub fn set_storage_time(&self, now: Timestamp) {
        *held(&self.0.storage_time) = Some(now);
    }

    /// Parts of resumable uploads.
    pub fn parts(&self) -> usize {
        held(&self.0.parts).len()
    }

    /// Blobs that are being written.
    pub fn unfinished(&self) -> usize {
        *held(&self.0.unfinished)
    }
}

impl Shelf {
    fn copy(&self, hash: ContentHash, tier: StorageTier) -> Option<Arc<Blob>> {
        match tier {
            StorageTier::Hot => held(&self.blobs).get(&hash).cloned(),
            tier => held(&self.colder).copies.get(&(tier, hash)).cloned(),
        }
    }

    fn put(&self, hash: ContentHash, tier: StorageTier, blob: Arc<Blob>) {
        held(&self.colder).left.remove(&(tier, hash));
        match tier {
            StorageTier::Hot => held(&self.blobs).insert(hash, blob),
            tier => held(&self.colder).copies.insert((tier, hash), blob),
        };
    }

    fn remove(&self, hash: ContentHash, tier: StorageTier) {
        held(&self.colder).left.remove(&(tier, hash));
        match tier {
            StorageTier::Hot => held(&self.blobs).remove(&hash),
            tier => held(&self.colder).copies.remove(&(tier, hash)),
        };
    }

    fn is_demoted(&self, hash: ContentHash, tier: StorageTier) -> bool {
        held(&self.colder).left.contains(&(tier, hash))
    }

    /// The copy that readers use.
    fn hottest(&self, hash: ContentHash) -> Option<(StorageTier, Arc<Blob>)> {
        let mut tiers = StorageTier::ALL.to_vec();
        tiers.sort_by_key(|&tier| self.is_demoted(hash, tier));
        tiers.into_iter().find_map(|tier| Some((tier, self.copy(hash, tier)?)))
    }
}

impl MemoryBlobs {
    async fn sink(&self, call: &'static str, tier: StorageTier) -> PortResult<Box<dyn BlobSink>> {
        let work = || {
            *held(&self.0.unfinished) += 1;
            Ok(Box::new(Sink { shelf: Arc::clone(&self.0), tier, bytes: Vec::new() }) as Box<dyn BlobSink>)
        };
        self.0.script.play(call, 1, work).await
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        self.sink("create", StorageTier::Hot).await
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        let work = || {
            let (tier, blob) = self.0.hottest(hash).ok_or(PortError::NotFound(Missing::Blob))?;
            let size_bytes = blob.bytes.len() as u64;
            let leaves = Arc::clone(&blob.leaves);
            let source = Arc::new(MemorySource { shelf: Arc::clone(&self.0), blob });
            Ok(StoredBlob { tier, size_bytes, leaves, source })
        };
        self.0.script.play("open", 1, work).await
    }

    async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        self.0.script.play("exists", 1, || Ok(self.0.hottest(hash).is_some())).await
    }

    async fn ping(&self) -> PortResult<()> {
        self.0.script.play("ping", 1, || Ok(())).await
    }
}

#[async_trait]
impl BlobCopies for MemoryBlobs {
    fn tiers(&self) -> Vec<StorageTier> {
        StorageTier::ALL.to_vec()
    }

    async fn open_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<Option<StoredCopy>> {
        let work = || {
            let Some(blob) = self.0.copy(hash, tier) else { return Ok(None) };
            let size_bytes = blob.bytes.len() as u64;
            let is_usable = blob.leaves.len() as u64 == leaf_count(size_bytes);
            let is_demoted = self.0.is_demoted(hash, tier);
            let source = Arc::new(MemorySource { shelf: Arc::clone(&self.0), blob });
            Ok(Some(StoredCopy { size_bytes, is_usable, is_demoted, source }))
        };
        self.0.script.play("open_copy", 1, work).await
    }

    async fn create_copy(&self, tier: StorageTier) -> PortResult<Box<dyn BlobSink>> {
        self.sink("create_copy", tier).await
    }

    async fn demote_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        let work = || Ok(self.0.copy(hash, tier).is_some() && held(&self.0.colder).left.insert((tier, hash)));
        self.0.script.play("leave_copy", 1, work).await
    }

    async fn remove_copy(&self, hash: ContentHash, tier: StorageTier) -> PortResult<()> {
        let work = || {
            self.0.remove(hash, tier);
            Ok(())
        };
        self.0.script.play("remove_copy", 1, work).await
    }
}

#[async_trait]
impl BlobTrash for MemoryBlobs {
    async fn list(&self, after: Option<ContentHash>, _: Duration, limit: usize) -> PortResult<Vec<ListedBlob>> {
        let work = || {
            let (blobs, since) = (held(&self.0.blobs), *held(&self.0.now));
            let hashes = blobs.keys().copied().filter(|&hash| after.is_none_or(|after| hash > after));
            Ok(hashes.take(limit).map(|hash| ListedBlob { hash, since }).collect())
        };
        self.0.script.play("list", limit, work).await
    }

    async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        let work = || {
            let Some(blob) = held(&self.0.blobs).remove(&hash) else { return Ok(false) };
            held(&self.0.retired).insert(hash, blob);
            Ok(true)
        };
        self.0.script.play("retire", 1, work).await
    }

    async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        let work = || {
            let blob = held(&self.0.retired).remove(&hash).ok_or(PortError::NotFound(Missing::Blob))?;
            held(&self.0.blobs).entry(hash).or_insert(blob);
            Ok(())
        };
        self.0.script.play("restore", 1, work).await
    }

    async fn discard(&self, hash: ContentHash) -> PortResult<()> {
        let work = || {
            if let Some(blob) = held(&self.0.retired).remove(&hash) {
                held(&self.0.trash).insert(hash, (blob, *held(&self.0.now)));
            }
            Ok(())
        };
        self.0.script.play("discard", 1, work).await
    }

    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
        let work = || {
            let trash = held(&self.0.trash);
            let listed = trash.iter().filter(|(hash, _)| after.is_none_or(|after| **hash > after));
            Ok(listed.take(limit).map(|(&hash, &(_, since))| ListedBlob { hash, since }).collect())
        };
        self.0.script.play("trashed", limit, work).await
    }

    async fn recover(&self, hash: ContentHash) -> PortResult<bool> {
        let work = || {
            let mut blobs = held(&self.0.blobs);
            if blobs.contains_key(&hash) {
                return Ok(false);
            }
            let Some((blob, _)) = held(&self.0.trash).remove(&hash) else { return Ok(false) };
            blobs.insert(hash, blob);
            Ok(true)
        };
        self.0.script.play("recover", 1, work).await
    }

    async fn purge(&self, hash: ContentHash) -> PortResult<u64> {
        let work = || {
            let removed = held(&self.0.trash).remove(&hash);
            Ok(removed.map_or(0, |(blob, _)| blob.bytes.len() as u64))
        };
        self.0.script.play("purge", 1, work).await
    }

    async fn sweep(&self, _: Duration, limit: usize, _: bool) -> PortResult<Sweep> {
        self.0.script.play("sweep", limit, || Ok(Sweep::default())).await
    }

    async fn clocks(&self) -> PortResult<Vec<StoreTime>> {
        let time = |now| StoreTime { tier: StorageTier::Hot, now };
        self.0.script.play("clocks", 1, || Ok(held(&self.0.storage_time).map(time).into_iter().collect())).await
    }
}

#[async_trait]
impl UploadParts for MemoryBlobs {
    async fn put_part(&self, part: PartName, bytes: Bytes) -> PortResult<()> {
        let size = bytes.len();
        let work = || {
            held(&self.0.parts).insert(part, bytes);
            Ok(())
        };
        self.0.script.play("put_part", size, work).await
    }

    async fn read_part(&self, part: PartName) -> PortResult<Bytes> {
        let work = || held(&self.0.parts).get(&part).cloned().ok_or(PortError::NotFound(Missing::Blob));
        self.0.script.play("read_part", 1, work).await
    }

    async fn remove_part(&self, part: PartName) -> PortResult<()> {
        let work = || {
            held(&self.0.parts).remove(&part);
            Ok(())
        };
        self.0.script.play("remove_part", 1, work).await
    }
}

struct MemorySource {
    shelf: Arc<Shelf>,
    blob: Arc<Blob>,
}

#[async_trait]
impl BlobSource for MemorySource {
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let work = || {
            let start = offset as usize;
            let end = start + len;
            let all = &self.blob.bytes;
            if self.blob.unreadable {
                return Err(PortError::unavailable("the disk", "it gave an error"));
            }
            if end > all.len() {
                return Err(PortError::Corrupt(format!("{} bytes where {end} should be", all.len())));
            }
            Ok(all.slice(start..end))
        };
        self.shelf.script.play("read_at", len, work).await
    }
}

struct Sink {
    shelf: Arc<Shelf>,
    tier: StorageTier,
    bytes: Vec<u8>,
}

#[async_trait]
impl BlobSink for Sink {
    async fn write(&mut self, part: Bytes) -> PortResult<()> {
        let bytes = &mut self.bytes;
        let work = || {
            bytes.extend_from_slice(&part);
            Ok(())
        };
        self.shelf.script.play("write", part.len(), work).await
    }

    /// Every write here replaces.
    fn replace(&mut self) {}

    async fn commit(mut self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let work = || {
            assert_eq!(hash_of(&bytes), hash, "the name of what was written");
            assert_eq!(*leaves_of(&bytes), *leaves, "the hash list of what was written");
            self.shelf.put(hash, self.tier, Blob::of(bytes, leaves.into()));
            Ok(())
        };
        self.shelf.script.play("commit", 1, work).await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        *held(&self.shelf.unfinished) -= 1;
    }
}
