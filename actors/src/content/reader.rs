//! `ContentStore`: verified reads of stored content, in leaves of 1 MiB.
//!
//! Every leaf read from the blob store is compared with its hash before its first byte is used, so rot and short reads
//! become errors and never wrong bytes that look complete. Verified leaves are cached by digest. They never change, so
//! the cache needs no invalidation.
//!
//! Content in quarantine is not read, not even from memory: see [`quarantine`](crate::content::quarantine). Content found
//! damaged while it is read is recorded as a suspect, for a verifier to check as a whole.
//!
//! **Bounds.** The leaf cache holds `memory_cache` bytes. At most [`OPEN_BLOBS`] blobs are open, and idle ones are
//! closed. Leaves that streams hold are counted against one read-ahead budget. A stream that finds it used up reads
//! small pieces instead of waiting, so slow readers cannot stop the others. At most [`PIECES`] bytes of such pieces are on their way
//! from the store to the server.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    content::quarantine::Quarantine,
    flow::admission::{Admission, AdmissionSnapshot, Permit},
    ids::ContentHash,
    model::{LEAF_BYTES, LeafHash, leaf_count},
    ports::{BlobSource, BlobStore, PortError, PortResult},
    task_span::InTaskSpan as _,
};

/// Blobs kept open for further streams; each holds an open file.
const OPEN_BLOBS: u64 = 1024;
const OPEN_IDLE: Duration = Duration::from_secs(10);

/// Bytes of pieces that were read without read-ahead budget and not yet handed over. A stream reads one when its client has room for it
/// and hands it over at once; so the bound is reached only when thousands begin at one moment, and then they take turns.
const PIECES: u32 = 8 << 20;

/// The longest wait for a turn.
const PIECE_PATIENCE: Duration = Duration::from_secs(20);

/// Suspects that wait for the verifier. Beyond that, a suspect is recorded when it is read again.
const MOST_SUSPECTS: usize = 1000;

/// When leaves are compared with their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Each time a leaf is read.
    Always,
    /// The first time that a leaf of an open blob is read; each time that a whole leaf is read over a network.
    #[default]
    Cold,
    /// Not at all; only short reads are noticed.
    Never,
}

/// Bounds of the content store.
#[derive(Debug, Clone, Copy)]
pub struct ContentSettings {
    /// Bytes of verified leaves to keep.
    pub memory_cache: u64,
    /// Bytes of leaves that all streams may hold at a time.
    pub read_ahead: u32,
    pub verify: Verify,
}

/// The counters of the content store.
#[derive(Debug, Default)]
pub struct ContentCounters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub bytes_read: AtomicU64,
    /// Reads that returned other bytes than were stored. Each one is a reason to check the disk.
    pub corrupt: AtomicU64,
}

/// An open content.
pub struct OpenContent {
    hash: ContentHash,
    size: u64,
    leaves: Arc<[LeafHash]>,
    source: Arc<dyn BlobSource>,
    /// One bit per leaf: verified since the blob was opened and since `epoch` last changed.
    verified: Box<[AtomicU64]>,
    epoch: AtomicU64,
}

impl OpenContent {
    pub const fn size(&self) -> u64 {
        self.size
    }

    const fn leaf_range(&self, leaf: u64) -> Range<u64> {
        let start = leaf * LEAF_BYTES;
        let end = start + LEAF_BYTES;
        start..if end < self.size { end } else { self.size }
    }

    fn is_verified(&self, leaf: u64) -> bool {
        let word = self.verified.get((leaf / 64) as usize);
        word.is_some_and(|word| word.load(Relaxed) & (1 << (leaf % 64)) != 0)
    }

    /// Forgets verification done before the last news about copies.
    fn renew(&self, epoch: u64) {
        if self.epoch.swap(epoch, Relaxed) != epoch {
            self.verified.iter().for_each(|word| word.store(0, Relaxed));
        }
    }

    fn set_verified(&self, leaf: u64) {
        if let Some(word) = self.verified.get((leaf / 64) as usize) {
            word.fetch_or(1 << (leaf % 64), Relaxed);
        }
    }
}

/// Bytes of one leaf, with the permit for them.
pub struct LeafBytes {
    pub bytes: Bytes,
    _permit: Permit,
}

/// Verified reads of stored content.
#[derive(Clone)]
pub struct ContentStore {
    blobs: Arc<dyn BlobStore>,
    open: Cache<ContentHash, Arc<OpenContent>>,
    leaves: Cache<(ContentHash, u64), Bytes>,
    read_ahead: Admission,
    pieces: Admission,
    verify: Verify,
    io: Handle,
    counters: Arc<ContentCounters>,
    quarantine: Quarantine,
    suspects: Arc<Suspects>,
    /// Grows with each news about copies.
    epoch: Arc<AtomicU64>,
}

/// Contents that were found damaged.
#[derive(Default)]
struct Suspects {
    hashes: Mutex<HashSet<ContentHash>>,
    wake: Notify,
}

impl ContentStore {
    /// Reads and hashes run on `io`, so a reader that leaves does not end a read that other readers wait for.
    pub fn new(blobs: Arc<dyn BlobStore>, settings: ContentSettings, io: Handle) -> Self {
        let leaves = Cache::builder()
            .max_capacity(settings.memory_cache)
            .weigher(|_, leaf: &Bytes| u32::try_from(leaf.len()).unwrap_or(u32::MAX))
            .build();
        Self {
            blobs,
            open: Cache::builder().max_capacity(OPEN_BLOBS).time_to_idle(OPEN_IDLE).build(),
            leaves,
            read_ahead: Admission::new("read_ahead", settings.read_ahead),
            pieces: Admission::new("pieces", PIECES),
            verify: settings.verify,
            io,
            counters: Arc::default(),
            quarantine: Quarantine::default(),
            suspects: Arc::default(),
            epoch: Arc::default(),
        }
    }

    /// The contents that readers do not get.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Refuses content in quarantine.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn admit(&self, hash: ContentHash) -> PortResult<()> {
        if self.quarantine.holds(hash) {
            return Err(PortError::Corrupt(format!("{hash} is in quarantine")));
        }
        Ok(())
    }

    /// Copies of a content have changed: the next stream opens it anew, and running streams verify it anew.
    pub async fn forget(&self, hash: ContentHash) {
        self.blobs.forget(hash).await;
        self.epoch.fetch_add(1, Relaxed);
        self.open.invalidate(&hash).await;
    }

    /// Copies of any content may have changed.
    pub fn forget_all(&self) {
        self.epoch.fetch_add(1, Relaxed);
        self.open.invalidate_all();
    }

    /// Waits for the next content that was found damaged. For one verifier.
    pub async fn next_suspect(&self) -> ContentHash {
        loop {
            let next = {
                let mut hashes = self.suspects.hashes.lock().unwrap_or_else(PoisonError::into_inner);
                let next = hashes.iter().next().copied();
                if let Some(hash) = next {
                    hashes.remove(&hash);
                }
                next
            };
            match next {
                Some(hash) => return hash,
                None => self.suspects.wake.notified().await,
            }
        }
    }

    fn suspect(&self, hash: ContentHash) {
        {
            let mut hashes = self.suspects.hashes.lock().unwrap_or_else(PoisonError::into_inner);
            if hashes.len() == MOST_SUSPECTS || !hashes.insert(hash) {
                return;
            }
        }
        self.suspects.wake.notify_one();
    }

    /// Opens a content, or returns the open one.
    ///
    /// # Errors
    /// As [`BlobStore::open`]; `Corrupt` also when the stored size is not `size`, or the content is in quarantine.
    pub async fn open(&self, hash: ContentHash, size: u64) -> PortResult<Arc<OpenContent>> {
        self.admit(hash)?;
        if let Some(open) = self.open.get(&hash).await {
            return Ok(open);
        }
        let stored = match self.blobs.open(hash).await {
            Ok(stored) => stored,
            Err(error) => return Err(self.failed(hash, error).await),
        };
        if stored.size_bytes != size || stored.leaves.len() as u64 != leaf_count(size) {
            let error = PortError::Corrupt(format!("{hash} has {} bytes instead of {size}", stored.size_bytes));
            return Err(self.failed(hash, error).await);
        }
        let words = stored.leaves.len().div_ceil(64);
        let open = Arc::new(OpenContent {
            hash,
            size,
            leaves: stored.leaves,
            source: stored.source,
            verified: std::iter::repeat_with(AtomicU64::default).take(words).collect(),
            epoch: AtomicU64::new(self.epoch.load(Relaxed)),
        });
        self.open.insert(hash, Arc::clone(&open)).await;
        Ok(open)
    }

    /// Budget for the leaf at this offset, if there is enough now.
    pub(crate) fn budget(&self, content: &OpenContent, at: u64) -> Option<Permit> {
        let bounds = content.leaf_range(at / LEAF_BYTES);
        self.read_ahead.try_admit((bounds.end - bounds.start) as u32)
    }

    /// Verified bytes of `content` from `range.start`: to the end of its leaf or of the range, whichever comes first. When
    /// the read-ahead budget is used up, at most `piece` bytes.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not those that were stored; `Unavailable` when the store does not answer.
    pub async fn read(&self, content: &Arc<OpenContent>, range: Range<u64>, piece: u64) -> PortResult<LeafBytes> {
        self.read_within(self.budget(content, range.start), content, range, piece).await
    }

    /// As [`read`](Self::read), with or without budget.
    pub(crate) async fn read_within(
        &self,
        budget: Option<Permit>,
        content: &Arc<OpenContent>,
        range: Range<u64>,
        piece: u64,
    ) -> PortResult<LeafBytes> {
        self.admit(content.hash)?;
        content.renew(self.epoch.load(Relaxed));
        let leaf = range.start / LEAF_BYTES;
        let bounds = content.leaf_range(leaf);
        let end = range.end.min(bounds.end);
        if let Some(budget) = budget {
            let bytes = self.leaf(content, leaf).await?;
            let within = (range.start - bounds.start) as usize..(end - bounds.start) as usize;
            return Ok(LeafBytes { bytes: bytes.slice(within), _permit: budget });
        }
        let end = end.min(range.start + piece);
        let turn = self.pieces.admit((end - range.start) as u32, PIECE_PATIENCE).await;
        let turn = turn
            .ok_or_else(|| PortError::unavailable("the blob store", "other streams read all that may be on its way"))?;
        let within = (range.start - bounds.start) as usize..(end - bounds.start) as usize;
        if content.is_verified(leaf)
            && self.verify != Verify::Always
            && !self.leaves.contains_key(&(content.hash, leaf))
        {
            let bytes = self.read_exactly(content, range.start..end).await?;
            return Ok(LeafBytes { bytes, _permit: turn });
        }
        let bytes = self.leaf(content, leaf).await?;
        Ok(LeafBytes { bytes: Bytes::copy_from_slice(&bytes[within]), _permit: turn })
    }

    /// One whole leaf, from the cache or from one read that all its readers share.
    async fn leaf(&self, content: &Arc<OpenContent>, leaf: u64) -> PortResult<Bytes> {
        let key = (content.hash, leaf);
        if let Some(bytes) = self.leaves.get(&key).await {
            self.counters.hits.fetch_add(1, Relaxed);
            return Ok(bytes);
        }
        self.counters.misses.fetch_add(1, Relaxed);
        let (store, content) = (self.clone(), Arc::clone(content));
        let fill = async move {
            let filled = store.leaves.try_get_with(key, store.fill(&content, leaf)).await;
            // Evict now: left to itself, the cache collects some sixty leaves over its bound before it looks.
            store.leaves.run_pending_tasks().await;
            filled.map_err(|shared| PortError::shared(&shared))
        };
        self.io.spawn(fill.in_task_span()).await.map_err(|error| PortError::unavailable("the read task", error))?
    }

    async fn fill(&self, content: &OpenContent, leaf: u64) -> PortResult<Bytes> {
        let bytes = self.read_exactly(content, content.leaf_range(leaf)).await?;
        self.counters.bytes_read.fetch_add(bytes.len() as u64, Relaxed);
        let known = match self.verify {
            Verify::Always => false,
            Verify::Cold => content.source.is_steady() && content.is_verified(leaf),
            Verify::Never => true,
        };
        if !known {
            let digest: LeafHash = Sha256::digest(&bytes).into();
            if content.leaves.get(leaf as usize) != Some(&digest) {
                let error = PortError::Corrupt(format!("leaf {leaf} of {} does not have its hash", content.hash));
                return Err(self.failed(content.hash, error).await);
            }
            content.set_verified(leaf);
        }
        Ok(bytes)
    }

    /// Bytes as stored, not verified; but exactly as many as were asked for, whatever the store returns.
    async fn read_exactly(&self, content: &OpenContent, range: Range<u64>) -> PortResult<Bytes> {
        let length = (range.end - range.start) as usize;
        let error = match content.source.read_at(range.start, length).await {
            Ok(bytes) if bytes.len() == length => return Ok(bytes),
            Ok(bytes) => PortError::Corrupt(format!("{} bytes of {} at {range:?}", bytes.len(), content.hash)),
            Err(error) => {
                if content.source.is_steady() {
                    // An open file that cannot be read: a network may come back, but a disk has lost the data.
                    self.suspect(content.hash);
                }
                error
            }
        };
        Err(self.failed(content.hash, error).await)
    }

    /// Records that a content could not be read although the index says that it is stored. Counts the damage, has a
    /// verifier check the content, and forgets the open blob: after a repair the next stream has to open the new one.
    pub async fn failed(&self, hash: ContentHash, error: PortError) -> PortError {
        if matches!(error, PortError::Corrupt(_)) {
            self.counters.corrupt.fetch_add(1, Relaxed);
            tracing::error!(%error, "stored content is damaged; this node queues it for verification");
        }
        self.open.invalidate(&hash).await;
        if matches!(error, PortError::Corrupt(_) | PortError::NotFound(_)) {
            self.suspect(hash);
        }
        error
    }

    pub fn counters(&self) -> &ContentCounters {
        &self.counters
    }

    /// Bytes of leaves in memory.
    pub fn cached_bytes(&self) -> u64 {
        self.leaves.weighted_size()
    }

    /// Blobs that are open for further streams.
    pub fn open_blobs(&self) -> u64 {
        self.open.entry_count()
    }

    pub fn read_ahead(&self) -> AdmissionSnapshot {
        self.read_ahead.snapshot()
    }
}
