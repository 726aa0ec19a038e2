//! The promises of every [`BlobStore`], of its [`BlobCopies`], of its [`BlobTrash`] and of its [`UploadParts`]. The store may
//! hold other blobs; the suite makes its own and never the same twice. Each promise is tested with the ports that it speaks of, and no others.

mod copies;
mod parts;
mod trash;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    ids::ContentHash,
    model::{LEAF_BYTES, LeafHash},
    ports::{BlobCopies, BlobStore, BlobTrash, PortError, UploadParts},
};

/// Runs the whole suite.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: &(impl BlobStore + BlobCopies + BlobTrash + UploadParts)) {
    store.ping().await.expect("a fresh store answers");
    what_is_committed_is_read_back_at_every_size(store).await;
    nothing_is_visible_before_the_commit(store).await;
    writers_of_the_same_content_do_not_disturb_each_other(store).await;
    leaves_that_do_not_fit_the_bytes_are_refused(store).await;
    reading_past_the_end_is_corrupt(store).await;
    what_is_not_there_is_not_found(store).await;
    trash::run(store).await;
    copies::run(store).await;
    parts::run(store).await;
}

/// Runs the promises about the parts of resumable uploads.
///
/// # Panics
/// When a promise is broken.
pub async fn run_parts(store: &dyn UploadParts) {
    parts::run(store).await;
}

/// Content that no other test has, with its name and leaves.
pub struct Sample {
    pub bytes: Bytes,
    pub hash: ContentHash,
    pub leaves: Vec<LeafHash>,
}

impl Sample {
    /// New content with each call, unless it is empty.
    pub fn of(size: usize) -> Self {
        let seed = Uuid::new_v4();
        let bytes: Bytes = seed.as_bytes().iter().copied().cycle().take(size).collect();
        let hash = ContentHash::from_bytes(Sha256::digest(&bytes).into());
        let leaf_bytes = usize::try_from(LEAF_BYTES).expect("a leaf fits in memory");
        let leaves = bytes.chunks(leaf_bytes).map(|leaf| Sha256::digest(leaf).into()).collect();
        Self { bytes, hash, leaves }
    }

    /// Puts the sample into a store, in parts of uneven size.
    ///
    /// # Errors
    /// The store's own.
    pub async fn store(&self, store: &dyn BlobStore) -> Result<(), PortError> {
        let mut sink = store.create().await?;
        for start in (0..self.bytes.len()).step_by(100_003) {
            sink.write(self.bytes.slice(start..self.bytes.len().min(start + 100_003))).await?;
        }
        sink.commit(self.hash, &self.leaves).await
    }
}

async fn what_is_committed_is_read_back_at_every_size(store: &dyn BlobStore) {
    let leaf = usize::try_from(LEAF_BYTES).expect("a leaf fits in memory");
    for size in [0, 1, leaf - 1, leaf, leaf + 1, 3 * leaf + 7] {
        let sample = Sample::of(size);
        sample.store(store).await.expect("stored");
        assert!(store.exists(sample.hash).await.expect("looked"));
        let blob = store.open(sample.hash).await.expect("opened");
        assert_eq!(blob.size_bytes, size as u64);
        assert_eq!(*blob.leaves, *sample.leaves);
        assert_eq!(blob.source.read_at(0, size).await.expect("read"), sample.bytes);
        let middle = size / 2..size - size / 3;
        let part = blob.source.read_at(middle.start as u64, middle.len()).await.expect("read");
        assert_eq!(part, sample.bytes[middle]);
    }
}

async fn nothing_is_visible_before_the_commit(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    assert!(!store.exists(sample.hash).await.expect("looked"));
    assert!(matches!(store.open(sample.hash).await, Err(PortError::NotFound(_))));
    sink.commit(sample.hash, &sample.leaves).await.expect("committed");
    assert!(store.exists(sample.hash).await.expect("looked"));
}

async fn writers_of_the_same_content_do_not_disturb_each_other(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    let (mut first, mut second) = (store.create().await.expect("created"), store.create().await.expect("created"));
    first.write(sample.bytes.slice(..500)).await.expect("written");
    second.write(sample.bytes.clone()).await.expect("written");
    first.write(sample.bytes.slice(500..)).await.expect("written");
    let (first, second) =
        futures::join!(first.commit(sample.hash, &sample.leaves), second.commit(sample.hash, &sample.leaves));
    first.expect("committed");
    second.expect("committed");
    let blob = store.open(sample.hash).await.expect("opened");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
}

async fn leaves_that_do_not_fit_the_bytes_are_refused(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    let refused = sink.commit(sample.hash, &[[0; 32], [1; 32]]).await;
    assert!(matches!(refused, Err(PortError::Rejected { .. })));
    assert!(!store.exists(sample.hash).await.expect("looked"));
}

async fn reading_past_the_end_is_corrupt(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    let source = store.open(sample.hash).await.expect("opened").source;
    for (offset, len) in [(0, 1001), (999, 2), (1000, 1), (1 << 40, 1)] {
        let read = source.read_at(offset, len).await;
        assert!(matches!(read, Err(PortError::Corrupt(_))), "{len} bytes from {offset}");
    }
    assert_eq!(source.read_at(999, 1).await.expect("the last byte"), sample.bytes[999..]);
}

async fn what_is_not_there_is_not_found(store: &dyn BlobStore) {
    let absent = Sample::of(10).hash;
    assert!(!store.exists(absent).await.expect("looked"));
    assert!(matches!(store.open(absent).await, Err(PortError::NotFound(_))));
}
