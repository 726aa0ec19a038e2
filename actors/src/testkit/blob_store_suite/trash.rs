//! The promises of a [`BlobTrash`].

use std::time::Duration;

use super::Sample;
use crate::{
    ids::ContentHash,
    ports::{BlobStore, BlobTrash, ListedBlob, PortError},
};

/// An age that no blob of a test run reaches.
const OLD: Duration = Duration::from_secs(3600);

pub(super) async fn run(store: &(impl BlobStore + BlobTrash)) {
    what_is_not_there_does_not_leave(store).await;
    a_sink_that_is_dropped_leaves_nothing(store).await;
    the_same_content_twice_is_one_blob(store).await;
    blobs_are_listed_in_order_page_by_page(store).await;
    a_young_blob_is_not_listed(store).await;
    a_retired_blob_is_out_of_sight_until_it_is_restored(store).await;
    a_discarded_blob_is_in_the_trash_until_it_is_recovered_or_purged(store).await;
    content_that_comes_back_while_it_is_out_of_sight_stays(store).await;
    an_open_blob_outlives_its_name(store).await;
    a_sweep_spares_the_young_and_a_dry_run_spares_all(store).await;
}

async fn what_is_not_there_does_not_leave(store: &dyn BlobTrash) {
    let absent = Sample::of(10).hash;
    assert!(!store.retire(absent).await.expect("nothing to retire"));
    assert!(matches!(store.restore(absent).await, Err(PortError::NotFound(_))));
    store.discard(absent).await.expect("discarding an absent blob succeeds");
    assert!(!store.recover(absent).await.expect("looked"));
    assert_eq!(store.purge(absent).await.expect("removing an absent blob succeeds"), 0);
}

async fn a_sink_that_is_dropped_leaves_nothing(store: &(impl BlobStore + BlobTrash)) {
    let before = store.sweep(Duration::ZERO, usize::MAX, true).await.expect("counted");
    let sample = Sample::of(1000);
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    drop(sink);
    assert!(!store.exists(sample.hash).await.expect("looked"));
    assert_eq!(store.sweep(Duration::ZERO, usize::MAX, true).await.expect("counted"), before);
}

async fn the_same_content_twice_is_one_blob(store: &(impl BlobStore + BlobTrash)) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    sample.store(store).await.expect("stored again");
    let before = predecessor(sample.hash);
    let listed = store.list(Some(before), Duration::ZERO, 1).await.expect("listed");
    assert_eq!(hashes(&listed), [sample.hash]);
    let blob = store.open(sample.hash).await.expect("opened");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
}

async fn blobs_are_listed_in_order_page_by_page(store: &(impl BlobStore + BlobTrash)) {
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

async fn a_young_blob_is_not_listed(store: &(impl BlobStore + BlobTrash)) {
    let sample = Sample::of(10);
    sample.store(store).await.expect("stored");
    let listed = store.list(Some(predecessor(sample.hash)), OLD, 1).await.expect("listed");
    assert!(!hashes(&listed).contains(&sample.hash));
}

async fn a_retired_blob_is_out_of_sight_until_it_is_restored(store: &(impl BlobStore + BlobTrash)) {
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

async fn a_discarded_blob_is_in_the_trash_until_it_is_recovered_or_purged(store: &(impl BlobStore + BlobTrash)) {
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

async fn content_that_comes_back_while_it_is_out_of_sight_stays(store: &(impl BlobStore + BlobTrash)) {
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

async fn an_open_blob_outlives_its_name(store: &(impl BlobStore + BlobTrash)) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    let blob = store.open(sample.hash).await.expect("opened");
    discard(store, &sample).await;
    store.purge(sample.hash).await.expect("purged");
    assert_eq!(blob.source.read_at(0, 1000).await.expect("read"), sample.bytes);
}

async fn a_sweep_spares_the_young_and_a_dry_run_spares_all(store: &(impl BlobStore + BlobTrash)) {
    let sample = Sample::of(1000);
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    store.sweep(OLD, usize::MAX, false).await.expect("swept");
    store.sweep(Duration::ZERO, usize::MAX, true).await.expect("counted");
    sink.commit(sample.hash, &sample.leaves).await.expect("neither call touched the upload");
    store.sweep(Duration::ZERO, usize::MAX, false).await.expect("swept");
    assert!(store.exists(sample.hash).await.expect("a sweep leaves blobs alone"));
}

async fn discard(store: &dyn BlobTrash, sample: &Sample) {
    assert!(store.retire(sample.hash).await.expect("retired"));
    store.discard(sample.hash).await.expect("discarded");
}

async fn trash_from(store: &dyn BlobTrash, sample: &Sample) -> Vec<ListedBlob> {
    store.trashed(Some(predecessor(sample.hash)), 1).await.expect("listed")
}

pub(super) fn hashes(listed: &[ListedBlob]) -> Vec<ContentHash> {
    listed.iter().map(|listed| listed.hash).collect()
}

/// The name just before this one in order.
pub(super) fn predecessor(hash: ContentHash) -> ContentHash {
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
