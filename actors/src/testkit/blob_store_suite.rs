//! The promises of every [`BlobStore`]. The store may hold other blobs; the suite makes its own and never the same twice.

mod copies;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    ids::ContentHash,
    model::{LEAF_BYTES, LeafHash},
    ports::{BlobStore, ListedBlob, PortError},
};

/// An age that no blob of a test run reaches.
const OLD: Duration = Duration::from_secs(3600);

/// Runs the whole suite.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<dyn BlobStore>) {
    let store = &*store;
    store.ping().await.expect("a fresh store answers");
    what_is_committed_is_read_back_at_every_size(store).await;
    nothing_is_visible_before_the_commit(store).await;
    a_sink_that_is_dropped_leaves_nothing(store).await;
    the_same_content_twice_is_one_blob(store).await;
    writers_of_the_same_content_do_not_disturb_each_other(store).await;
    leaves_that_do_not_fit_the_bytes_are_refused(store).await;
    reading_past_the_end_is_corrupt(store).await;
    what_is_not_there_is_not_found(store).await;
    blobs_are_listed_in_order_page_by_page(store).await;
    a_young_blob_is_not_listed(store).await;
    a_retired_blob_is_out_of_sight_until_it_is_restored(store).await;
    a_discarded_blob_is_in_the_trash_until_it_is_recovered_or_purged(store).await;
    content_that_comes_back_while_it_is_out_of_sight_stays(store).await;
    an_open_blob_outlives_its_name(store).await;
    a_sweep_spares_the_young_and_a_dry_run_spares_all(store).await;
    copies::run(store).await;
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

async fn a_sink_that_is_dropped_leaves_nothing(store: &dyn BlobStore) {
    let before = store.sweep(Duration::ZERO, usize::MAX, true).await.expect("counted");
    let sample = Sample::of(1000);
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    drop(sink);
    assert!(!store.exists(sample.hash).await.expect("looked"));
    assert_eq!(store.sweep(Duration::ZERO, usize::MAX, true).await.expect("counted"), before);
}

async fn the_same_content_twice_is_one_blob(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    sample.store(store).await.expect("stored again");
    let before = predecessor(sample.hash);
    let listed = store.list(Some(before), Duration::ZERO, 1).await.expect("listed");
    assert_eq!(hashes(&listed), [sample.hash]);
    let blob = store.open(sample.hash).await.expect("opened");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
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
    assert!(!store.retire(absent).await.expect("nothing to retire"));
    assert!(matches!(store.restore(absent).await, Err(PortError::NotFound(_))));
    store.discard(absent).await.expect("discarding an absent blob succeeds");
    assert!(!store.recover(absent).await.expect("looked"));
    assert_eq!(store.purge(absent).await.expect("removing an absent blob succeeds"), 0);
}

async fn blobs_are_listed_in_order_page_by_page(store: &dyn BlobStore) {
    let mut made = Vec::new();
    for _ in 0..20 {
        let sample = Sample::of(10);
        sample.store(store).await.expect("stored");
        made.push(sample.hash);
    }
    let mut listed = Vec::new();
    loop {
        let page = hashes(&store.list(listed.last().copied(), Duration::ZERO, 7).await.expect("listed"));
        assert!(page.len() <= 7);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert!(listed.is_sorted_by(|one, next| one < next));
    assert!(made.iter().all(|hash| listed.contains(hash)));
}

async fn a_young_blob_is_not_listed(store: &dyn BlobStore) {
    let sample = Sample::of(10);
    sample.store(store).await.expect("stored");
    let listed = store.list(Some(predecessor(sample.hash)), OLD, 1).await.expect("listed");
    assert!(!hashes(&listed).contains(&sample.hash));
}

async fn a_retired_blob_is_out_of_sight_until_it_is_restored(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    assert!(store.retire(sample.hash).await.expect("retired"));
    assert!(!store.exists(sample.hash).await.expect("looked"));
    assert!(matches!(store.open(sample.hash).await, Err(PortError::NotFound(_))));
    let listed = store.list(Some(predecessor(sample.hash)), Duration::ZERO, 1).await.expect("listed");
    assert!(!hashes(&listed).contains(&sample.hash));
    store.restore(sample.hash).await.expect("restored");
    store.restore(sample.hash).await.expect("restoring a visible blob succeeds");
    let blob = store.open(sample.hash).await.expect("opened");
    assert_eq!(*blob.leaves, *sample.leaves);
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
}

async fn a_discarded_blob_is_in_the_trash_until_it_is_recovered_or_purged(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    assert!(!store.recover(sample.hash).await.expect("looked"), "it is visible");
    discard(store, &sample).await;
    store.discard(sample.hash).await.expect("discarded again");
    assert!(!store.exists(sample.hash).await.expect("looked"));
    assert!(matches!(store.open(sample.hash).await, Err(PortError::NotFound(_))));
    assert!(matches!(store.restore(sample.hash).await, Err(PortError::NotFound(_))));
    let listed = store.list(Some(predecessor(sample.hash)), Duration::ZERO, 1).await.expect("listed");
    assert!(!hashes(&listed).contains(&sample.hash));
    assert_eq!(hashes(&trash_from(store, &sample).await), [sample.hash]);
    store.sweep(Duration::ZERO, usize::MAX, false).await.expect("swept");
    assert!(store.recover(sample.hash).await.expect("recovered"));
    assert!(!store.recover(sample.hash).await.expect("looked"), "once");
    assert!(!hashes(&trash_from(store, &sample).await).contains(&sample.hash));
    let blob = store.open(sample.hash).await.expect("opened");
    assert_eq!(*blob.leaves, *sample.leaves);
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);

    discard(store, &sample).await;
    assert_eq!(store.purge(sample.hash).await.expect("purged"), 1000);
    assert_eq!(store.purge(sample.hash).await.expect("purged again"), 0);
    assert!(!store.recover(sample.hash).await.expect("looked"));
    assert!(!hashes(&trash_from(store, &sample).await).contains(&sample.hash));
    sample.store(store).await.expect("stored anew");
    assert!(store.exists(sample.hash).await.expect("looked"));
}

async fn content_that_comes_back_while_it_is_out_of_sight_stays(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    assert!(store.retire(sample.hash).await.expect("retired"));
    sample.store(store).await.expect("stored anew");
    store.discard(sample.hash).await.expect("discarded");
    assert!(!store.recover(sample.hash).await.expect("looked"), "a visible one exists");
    store.purge(sample.hash).await.expect("purged");
    let blob = store.open(sample.hash).await.expect("the new blob is not the retired one");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
    for _ in 0..2 {
        discard(store, &sample).await;
        sample.store(store).await.expect("stored anew");
    }
    store.sweep(Duration::ZERO, usize::MAX, false).await.expect("swept");
    let blob = store.open(sample.hash).await.expect("opened");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
    store.purge(sample.hash).await.expect("purged");
}

async fn discard(store: &dyn BlobStore, sample: &Sample) {
    assert!(store.retire(sample.hash).await.expect("retired"));
    store.discard(sample.hash).await.expect("discarded");
}

async fn trash_from(store: &dyn BlobStore, sample: &Sample) -> Vec<ListedBlob> {
    store.trashed(Some(predecessor(sample.hash)), 1).await.expect("listed")
}

fn hashes(listed: &[ListedBlob]) -> Vec<ContentHash> {
    listed.iter().map(|listed| listed.hash).collect()
}

async fn an_open_blob_outlives_its_name(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    let blob = store.open(sample.hash).await.expect("opened");
    discard(store, &sample).await;
    store.purge(sample.hash).await.expect("purged");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
}

async fn a_sweep_spares_the_young_and_a_dry_run_spares_all(store: &dyn BlobStore) {
    let sample = Sample::of(1000);
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    store.sweep(OLD, usize::MAX, false).await.expect("swept");
    store.sweep(Duration::ZERO, usize::MAX, true).await.expect("counted");
    sink.commit(sample.hash, &sample.leaves).await.expect("neither call touched the upload");
    store.sweep(Duration::ZERO, usize::MAX, false).await.expect("swept");
    assert!(store.exists(sample.hash).await.expect("a sweep leaves blobs alone"));
}

/// The name just before this one in order.
fn predecessor(hash: ContentHash) -> ContentHash {
    let mut bytes = *hash.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            break;
        }
    }
    ContentHash::from_bytes(bytes)
}
