//! A blob store that returns fewer bytes than requested, at every offset: never wrong bytes, never an end that looks
//! complete.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    content::reader::{ContentSettings, ContentStore, OpenContent, Verify},
    ids::ContentHash,
    model::{LEAF_BYTES, LeafHash, StorageTier},
    ports::{BlobSink, BlobSource, BlobStore, PortError, PortResult, StoredBlob},
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

/// Three leaves, the last one small.
const TAIL: usize = 700;
const SIZE: usize = 2 * LEAF_BYTES as usize + TAIL;

/// The behaviour of a source at the end of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    /// Returns an error, as the port requires.
    Fails,
    /// Returns the bytes that there are, as a careless adapter would.
    GivesLess,
    /// Fills up with zeros, as a file with a hole would.
    GivesZeros,
}

struct Source {
    bytes: Bytes,
    /// The number of bytes that really exist.
    there: AtomicUsize,
    at_end: AtEnd,
}

#[async_trait]
impl BlobSource for Source {
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let (start, there) = (offset as usize, self.there.load(Relaxed));
        let end = (start + len).min(there).max(start);
        if end == start + len {
            return Ok(self.bytes.slice(start..end));
        }
        match self.at_end {
            AtEnd::Fails => Err(PortError::Corrupt(format!("it ends before byte {}", start + len))),
            AtEnd::GivesLess => Ok(self.bytes.slice(start..end)),
            AtEnd::GivesZeros => {
                let mut padded = self.bytes[start..end].to_vec();
                padded.resize(len, 0);
                Ok(padded.into())
            }
        }
    }
}

/// A store of one blob.
struct Blobs {
    source: Arc<Source>,
    leaves: Arc<[LeafHash]>,
}

#[async_trait]
impl BlobStore for Blobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        Err(PortError::Full("read-only"))
    }

    async fn open(&self, _: ContentHash) -> PortResult<StoredBlob> {
        let source = Arc::clone(&self.source);
        let leaves = Arc::clone(&self.leaves);
        Ok(StoredBlob { tier: StorageTier::Hot, size_bytes: SIZE as u64, leaves, source })
    }

    async fn exists(&self, _: ContentHash) -> PortResult<bool> {
        Ok(true)
    }

    async fn ping(&self) -> PortResult<()> {
        Ok(())
    }
}

/// A content store over a source that can be cut short.
struct Scene {
    bytes: Bytes,
    hash: ContentHash,
    source: Arc<Source>,
    store: ContentStore,
}

impl Scene {
    fn new(verify: Verify, at_end: AtEnd, read_ahead: u32) -> Self {
        let bytes: Bytes = (0..SIZE).map(|at| (at * 31 + at / 257) as u8 | 1).collect();
        let source = Arc::new(Source { bytes: bytes.clone(), there: AtomicUsize::new(SIZE), at_end });
        let leaves = bytes.chunks(LEAF_BYTES as usize).map(|leaf| Sha256::digest(leaf).into()).collect();
        let blobs = Blobs { source: Arc::clone(&source), leaves };
        let settings = ContentSettings { memory_cache: 0, read_ahead, verify };
        let store = ContentStore::new(Arc::new(blobs), settings, Handle::current());
        Self { hash: ContentHash::from_bytes(Sha256::digest(&bytes).into()), bytes, source, store }
    }

    async fn open(&self) -> Arc<OpenContent> {
        self.store.open(self.hash, SIZE as u64).await.expect("it is there")
    }

    /// Reads from `start` to the end as a stream does: returns the bytes, and whether it reached the end.
    async fn read_from(&self, content: &Arc<OpenContent>, start: usize) -> (Vec<u8>, PortResult<()>) {
        let (mut got, mut at) = (Vec::new(), start as u64);
        while at < SIZE as u64 {
            match self.store.read(content, at..SIZE as u64, 64 << 10).await {
                Ok(held) => {
                    assert!(!held.bytes.is_empty(), "a read goes on or fails");
                    at += held.bytes.len() as u64;
                    got.extend_from_slice(&held.bytes);
                }
                Err(error) => return (got, Err(error)),
            }
        }
        (got, Ok(()))
    }
}

/// Offsets at which the source is cut: every one of the small last leaf and around each boundary, and some in between.
fn cuts() -> impl Iterator<Item = usize> {
    let leaf = LEAF_BYTES as usize;
    let last_leaf = 2 * leaf - 3..SIZE;
    last_leaf.chain([0, 1, leaf - 1, leaf, leaf + 1, leaf + 65_535, leaf + 65_536, leaf + leaf / 2])
}

async fn a_source_that_is_cut_never_looks_whole(verify: Verify, at_end: AtEnd, read_ahead: u32) {
    let scene = Scene::new(verify, at_end, read_ahead);
    let leaf = LEAF_BYTES as usize;
    // Opened once, so that leaves read before the cut count as verified where the setting says so.
    let content = scene.open().await;
    let (whole, end) = scene.read_from(&content, 0).await;
    assert!(end.is_ok() && whole == scene.bytes);
    for there in cuts() {
        scene.source.there.store(there, Relaxed);
        let corrupt = scene.store.counters().corrupt.load(Relaxed);
        let start = (there / leaf).saturating_sub(usize::from(there % leaf < 3)) * leaf;
        let (got, end) = scene.read_from(&content, start).await;
        assert!(matches!(end, Err(PortError::Corrupt(_))), "cut at {there}: {end:?} after {} bytes", got.len());
        assert!(start + got.len() <= there, "cut at {there}: {} bytes from {start}", got.len());
        assert!(got == scene.bytes[start..start + got.len()], "cut at {there}: wrong bytes");
        assert!(scene.store.counters().corrupt.load(Relaxed) > corrupt, "cut at {there}: not counted");
        assert_eq!(scene.store.read_ahead().in_use, 0, "nothing is held");
    }
    // After the repair it is served again.
    scene.source.there.store(SIZE, Relaxed);
    let (whole, end) = scene.read_from(&content, 0).await;
    assert!(end.is_ok() && whole == scene.bytes);
}

const ROOMY: u32 = 16 << 20;
/// No leaf fits: every read uses small pieces.
const NONE: u32 = 0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ends_early_is_noticed_at_every_offset() {
    for verify in [Verify::Always, Verify::Cold, Verify::Never] {
        for read_ahead in [ROOMY, NONE] {
            a_source_that_is_cut_never_looks_whole(verify, AtEnd::Fails, read_ahead).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_gives_less_without_saying_so_is_noticed_at_every_offset() {
    for verify in [Verify::Always, Verify::Cold, Verify::Never] {
        for read_ahead in [ROOMY, NONE] {
            a_source_that_is_cut_never_looks_whole(verify, AtEnd::GivesLess, read_ahead).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fills_up_with_zeros_is_noticed_where_every_read_is_verified() {
    a_source_that_is_cut_never_looks_whole(Verify::Always, AtEnd::GivesZeros, ROOMY).await;
}
